import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDateTime;
import java.util.Arrays;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** Talks to the server as an application on JDBC does, and prints one line a step for the test to compare. */
public class JdbcCheck {
  public static void main(String[] arguments) throws Exception {
    try (Connection client = DriverManager.getConnection(arguments[0])) {
      try (Statement statement = client.createStatement()) {
        statement.execute("CREATE TABLE j (a INT, b VARCHAR, c DECIMAL(38,18), d TIMESTAMP, e BLOB)");
      }
      try (PreparedStatement insert = client.prepareStatement("INSERT INTO j VALUES (?::int, ?::text, ?::numeric, ?::timestamp, ?)")) {
        for (int i = 0; i < 50; i++) {
          insert.setInt(1, i);
          insert.setString(2, i % 2 == 0 ? null : "text " + i);
          insert.setBigDecimal(3, new java.math.BigDecimal(i + ".25"));
          insert.setObject(4, LocalDateTime.of(2024, 1, 2, 3, 4, i));
          insert.setBytes(5, new byte[] {0, (byte) i});
          insert.addBatch();
        }
        System.out.println("batch " + Arrays.stream(insert.executeBatch()).sum());
      }
      // From the fifth execution on the driver prepares on the server and reads binary.
      try (PreparedStatement select = client.prepareStatement("SELECT a, b, c, d, e FROM j WHERE a = ?::int")) {
        String text = "";
        for (int i = 0; i < 12; i++) {
          select.setInt(1, 7);
          try (ResultSet rows = select.executeQuery()) {
            rows.next();
            String now = rows.getInt(1) + " " + rows.getString(2) + " " + rows.getBigDecimal(3) + " " + rows.getObject(4, LocalDateTime.class)
                + " " + Arrays.toString(rows.getBytes(5));
            if (i > 0 && !now.equals(text)) System.out.println("differs " + now);
            text = now;
          }
        }
        System.out.println(text);
      }
      try (PreparedStatement select = client.prepareStatement(
          "SELECT [1, NULL, 3] AS l, INTERVAL '1 month 2 days' AS i, '{\"b\": 1, \"a\": 2}'::JSON AS o, true AS t, 1.5::DOUBLE AS f, "
              + "DATE '2024-02-29' AS d, NULL::INT AS n, ['a b', NULL] AS s")) {
        for (int i = 0; i < 7; i++) {
          try (ResultSet rows = select.executeQuery()) {
            rows.next();
            if (i == 0 || i == 6) {
              System.out.println(Arrays.toString((Object[]) rows.getArray(1).getArray()) + " " + rows.getString(2) + " " + rows.getString(3) + " "
                  + rows.getBoolean(4) + " " + rows.getDouble(5) + " " + rows.getDate(6) + " " + rows.getObject(7) + " "
                  + Arrays.toString((Object[]) rows.getArray(8).getArray()));
            }
          }
        }
      }
      client.setAutoCommit(false);
      try (PreparedStatement select = client.prepareStatement("SELECT i FROM range(1000) t(i) ORDER BY i")) {
        select.setFetchSize(64);
        long sum = 0;
        try (ResultSet rows = select.executeQuery()) {
          while (rows.next()) sum += rows.getLong(1);
        }
        System.out.println("fetched " + sum);
      }
      client.commit();
      client.setAutoCommit(true);
      try (Statement statement = client.createStatement()) {
        statement.executeQuery("SELECT * FROM missing");
      } catch (SQLException error) {
        System.out.println("error " + error.getSQLState());
      }
      CopyManager copy = client.unwrap(PGConnection.class).getCopyAPI();
      System.out.println("copied in " + copy.copyIn("COPY j FROM STDIN (FORMAT csv)", new StringReader("100,x,1,2024-01-01,\\x00\n")));
      StringWriter out = new StringWriter();
      System.out.println("copied out " + copy.copyOut("COPY j TO STDOUT (FORMAT csv)", out) + " " + out.toString().split("\n").length);
    }
  }
}
