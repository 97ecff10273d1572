import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownerPrefix } from '../support/net-hosts.ts';
import { buildImage } from './harness/image.ts';
import { KubeCluster } from './harness/kube-cluster.ts';
import { type Container, isBudget, isService, isStatefulSet, type KubeObject, type StatefulSet } from './objects.ts';
import { leaderHangs, nodeLost, nodesDrained, rollingUpdate, type Scenario, volumeLost } from './scenarios.ts';
import { objectsOf } from './tools.ts';

/** Manifests with one mechanism taken out, each with the scenario that must notice it. `node test/k8s/mutations.ts [NAME…]`; the last line is the count. */
interface Mutation {
  readonly scenario: Scenario;
  readonly change: (rendered: readonly KubeObject[]) => KubeObject[];
}
type Editable<T> = { -readonly [K in keyof T]: Editable<T[K]> };

const inSets =
  (edit: (set: Editable<StatefulSet>) => void): Mutation['change'] =>
  (rendered) =>
    (structuredClone(rendered) as Editable<KubeObject>[]).map((object) => {
      if (isStatefulSet(object)) edit(object as Editable<StatefulSet>);
      return object;
    });
const inContainers = (edit: (container: Editable<Container>) => void): Mutation['change'] =>
  inSets((set) => {
    for (const container of set.spec.template.spec.containers) edit(container);
  });

const MUTATIONS: Readonly<Record<string, Mutation>> = {
  'no preStop hook': { scenario: rollingUpdate, change: inContainers((container) => delete container.lifecycle) },
  'a preStop hook that does not hand over': {
    scenario: rollingUpdate,
    change: inContainers((container) => {
      container.lifecycle = { preStop: { exec: { command: ['sleep', '5'] } } };
    }),
  },
  'a preStop hook that does not wait': {
    scenario: rollingUpdate,
    change: inContainers((container) => {
      const command = container.lifecycle?.preStop?.exec.command ?? [];
      container.lifecycle = { preStop: { exec: { command: command.map((word) => word.replace(/; sleep \d+$/, '')) } } };
    }),
  },
  'no readiness probe': { scenario: volumeLost, change: inContainers((container) => delete container.readinessProbe) },
  'no liveness probe': { scenario: leaderHangs, change: inContainers((container) => delete container.livenessProbe) },
  'data that does not go with the name': {
    scenario: rollingUpdate,
    change: inSets((set) => {
      set.spec.volumeClaimTemplates = [];
      set.spec.template.spec.volumes = [...(set.spec.template.spec.volumes ?? []), { name: 'data', emptyDir: {} }];
    }),
  },
  'no anti-affinity': { scenario: nodeLost, change: inSets((set) => delete set.spec.template.spec.affinity) },
  'no disruption budget': { scenario: nodesDrained, change: (rendered) => rendered.filter((object) => !isBudget(object)) },
  'names of ready pods only': {
    scenario: nodeLost,
    change: (rendered) =>
      (structuredClone(rendered) as Editable<KubeObject>[]).map((object) => {
        if (isService(object)) delete (object as { spec: { publishNotReadyAddresses?: boolean } }).spec.publishNotReadyAddresses;
        return object;
      }),
  },
  'pods one after the other': {
    scenario: nodeLost,
    change: inSets((set) => {
      set.spec.podManagementPolicy = 'OrderedReady';
    }),
  },
};

const asked = process.argv.slice(2);
const chosen = Object.entries(MUTATIONS).filter(([name]) => asked.length === 0 || asked.includes(name));
const scratch = mkdtempSync(join(tmpdir(), `${ownerPrefix()}image-`));
let caught = 0;
try {
  const image = await buildImage(scratch);
  const rendered = await objectsOf('k8s/base');
  for (const [name, { scenario, change }] of chosen) {
    await using cluster = await KubeCluster.start(image);
    const problem = await scenario(cluster, change(rendered)).then(
      () => null,
      (error: Error) => error.message,
    );
    if (problem !== null) caught++;
    console.log(`${problem === null ? 'SURVIVED' : 'caught'}: ${name}${problem === null ? '' : `: ${problem.split('\n')[0]}`}`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${caught} of ${chosen.length} broken manifests caught`);
process.exitCode = caught === chosen.length ? 0 : 1;
