import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

/** Asks for everything that a database tool on JDBC asks when it opens a connection; one line for each row. */
public class JdbcMetadata {
  private static void show(String what, ResultSet rows, String... columns) throws Exception {
    try (rows) {
      while (rows.next()) {
        List<String> values = new ArrayList<>();
        for (String column : columns) values.add(String.valueOf(rows.getString(column)));
        System.out.println(what + ": " + String.join(" | ", values));
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    try (Connection client = DriverManager.getConnection(arguments[0])) {
      DatabaseMetaData meta = client.getMetaData();
      System.out.println("product: " + meta.getDatabaseProductName());
      show("catalog", meta.getCatalogs(), "TABLE_CAT");
      show("schema", meta.getSchemas(null, "s"), "TABLE_SCHEM");
      show("table", meta.getTables(null, "public", "%", null), "TABLE_NAME", "TABLE_TYPE");
      show("only tables", meta.getTables(null, "%", "%", new String[] {"TABLE"}), "TABLE_SCHEM", "TABLE_NAME");
      show("column", meta.getColumns(null, "public", "t", "%"),
          "COLUMN_NAME", "TYPE_NAME", "NULLABLE", "COLUMN_DEF", "ORDINAL_POSITION", "IS_GENERATEDCOLUMN");
      show("column of view", meta.getColumns(null, "public", "m", "%"), "COLUMN_NAME", "TYPE_NAME");
      show("key", meta.getPrimaryKeys(null, "public", "t"), "COLUMN_NAME", "KEY_SEQ", "PK_NAME");
      show("index", meta.getIndexInfo(null, "public", "t", false, true), "INDEX_NAME", "COLUMN_NAME", "NON_UNIQUE");
      show("imported", meta.getImportedKeys(null, "public", "t"), "PKTABLE_NAME");
      show("exported", meta.getExportedKeys(null, "public", "t"), "PKTABLE_NAME");
      show("best row", meta.getBestRowIdentifier(null, "public", "t", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME");
      show("function", meta.getFunctions(null, "public", "%"), "FUNCTION_NAME");
      show("function column", meta.getFunctionColumns(null, "public", "f", "%"), "COLUMN_NAME", "TYPE_NAME");
      show("procedure", meta.getProcedures(null, "public", "%"), "PROCEDURE_NAME");
      try (ResultSet rows = meta.getTablePrivileges(null, "public", "t")) {
        while (rows.next()) {
          if (rows.getString("PRIVILEGE").equals("SELECT")) System.out.println("privilege: " + rows.getString("GRANTEE") + " | SELECT");
        }
      }
      int types = 0;
      try (ResultSet rows = meta.getTypeInfo()) {
        while (rows.next()) types++;
      }
      System.out.println("types: " + (types > 20 ? "many" : types));
      show("udt", meta.getUDTs(null, "public", "%", null), "TYPE_NAME");
      System.out.println("keywords: " + (meta.getSQLKeywords().isEmpty() ? "none" : "some"));
      System.out.println("longest name: " + meta.getMaxTableNameLength());
      System.out.println("connection: isolation " + client.getTransactionIsolation() + ", read only " + client.isReadOnly()
          + ", schema " + client.getSchema() + ", valid " + client.isValid(5));
      try (PreparedStatement select = client.prepareStatement("SELECT a, b, d, e FROM t WHERE a = ?")) {
        ResultSetMetaData shape = select.getMetaData();
        for (int i = 1; i <= shape.getColumnCount(); i++)
          System.out.println("shape: " + shape.getColumnName(i) + " " + shape.getColumnTypeName(i));
        System.out.println("parameter: " + select.getParameterMetaData().getParameterTypeName(1));
      }
      client.setAutoCommit(false);
      try (Statement statement = client.createStatement()) {
        statement.execute("SELECT 1");
      }
      client.rollback();
      client.setAutoCommit(true);
    }
  }
}
