import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.transport.Netty4Plugin;

/** One node of OpenSearch, without its distribution: java -cp JARS OpenSearch.java SETTING=VALUE... */
public class OpenSearch {
    public static void main(String[] words) throws Exception {
        Settings.Builder settings = Settings.builder();
        for (String word : words) {
            String[] parts = word.split("=", 2);
            settings.put(parts[0], parts[1]);
        }
        var home = Path.of(settings.get("path.home"));
        var prepared = InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), home, () -> "lab");
        var plugins = List.of(
                Netty4Plugin.class,
                ReindexPlugin.class,
                PainlessPlugin.class,
                CommonAnalysisPlugin.class,
                MapperExtrasPlugin.class);
        Node node = new Node(prepared, List.copyOf(plugins), true) {};
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        node.start();
        new CountDownLatch(1).await();
    }
}
