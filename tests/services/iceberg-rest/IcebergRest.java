import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/**
 * Iceberg's own REST catalog over Iceberg's own JDBC catalog, on loopback.
 * (The server class in Iceberg's test fixtures listens on all interfaces.)
 *
 * Arguments: PORT JDBC_URI WAREHOUSE CATALOG_NAME [KEY=VALUE ...]
 */
public class IcebergRest {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("catalog-impl", "org.apache.iceberg.jdbc.JdbcCatalog");
    properties.put("uri", arguments[1]);
    properties.put("warehouse", arguments[2]);
    properties.put("jdbc.schema-version", "V1");
    for (int i = 4; i < arguments.length; i++) {
      String[] pair = arguments[i].split("=", 2);
      properties.put(pair[0], pair[1]);
    }
    var catalog = CatalogUtil.buildIcebergCatalog(arguments[3], properties, new Configuration());
    var server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
    var handler = new ServletContextHandler("/");
    handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    server.setHandler(handler);
    server.start();
    server.join();
  }
}
