import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { ownerPrefix } from '../../support/net-hosts.ts';
import { buildImage, type Image } from '../harness/image.ts';
import { KubeCluster } from '../harness/kube-cluster.ts';
import {
  devServes,
  groupAdded,
  leaderHangs,
  nodeLost,
  nodesDrained,
  rollingUpdate,
  type Scenario,
  scaledUpAndDown,
  volumeLost,
} from '../scenarios.ts';
import { objectsOf, ROOT } from '../tools.ts';

const MINUTE_MS = 60_000;

/** Real processes, exactly as the rendered manifests say, from the image that the Dockerfile makes. */
describe('a cluster of the rendered manifests', () => {
  let scratch = '';
  let image: Image;
  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), `${ownerPrefix()}image-`));
    image = await buildImage(scratch);
  }, 10 * MINUTE_MS);
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  const run = async (scenario: Scenario, kustomization: string): Promise<void> => {
    const rendered = await objectsOf(kustomization);
    await using cluster = await KubeCluster.start(image);
    await scenario(cluster, rendered);
  };

  test('F41 dev: one replica starts and serves', () => run(devServes, 'k8s/overlays/dev'), 3 * MINUTE_MS);
  test('F41 rolling update under load: nobody notices', () => run(rollingUpdate, 'k8s/base'), 5 * MINUTE_MS);
  test('F41 the leader’s node dies: another address under the same name', () => run(nodeLost, 'k8s/base'), 5 * MINUTE_MS);
  test('F41 the leader’s process hangs: it is ended and started again', () => run(leaderHangs, 'k8s/base'), 6 * MINUTE_MS);
  test('F41 two nodes are drained at once: one replica at a time', () => run(nodesDrained, 'k8s/base'), 5 * MINUTE_MS);
  test('F41 from three replicas to five and back', () => run(scaledUpAndDown, 'k8s/base'), 5 * MINUTE_MS);
  test('F41 a volume is lost: an empty one under a known id', () => run(volumeLost, 'k8s/base'), 5 * MINUTE_MS);

  test(
    'F41 a new group takes load, and goes',
    async () => {
      // As the page says: group-c copied, its letter replaced, its name added. Without b and c: six processes are enough here.
      const prod = join(scratch, 'k8s', 'overlays', 'prod');
      cpSync(join(ROOT, 'k8s'), join(scratch, 'k8s'), { recursive: true });
      cpSync(join(prod, 'group-c'), join(prod, 'group-d'), { recursive: true });
      edit(join(prod, 'group-d', 'kustomization.yaml'), (text) =>
        text.replaceAll('ledgermq-c', 'ledgermq-d').replaceAll(/(: |=|-)c\b/g, '$1d'),
      );
      edit(join(prod, 'kustomization.yaml'), (text) => text.replace(/ {2}- group-b\n {2}- group-c\n/, ''));
      const before = await objectsOf(prod);
      edit(join(prod, 'kustomization.yaml'), (text) => text.replace('  - ../../base\n', '  - ../../base\n  - group-d\n'));
      const after = await objectsOf(prod);
      await using cluster = await KubeCluster.start(image);
      await groupAdded(after)(cluster, before);
    },
    5 * MINUTE_MS,
  );
});

function edit(file: string, change: (text: string) => string): void {
  writeFileSync(file, change(readFileSync(file, 'utf8')));
}
