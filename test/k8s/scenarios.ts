import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeCluster } from './harness/kube-cluster.ts';
import { kubectl, tale } from './harness/kubectl.ts';
import { Load, type LoadReport } from './harness/load.ts';
import type { Pod } from './harness/pod.ts';
import { runbook } from './harness/runbook.ts';
import type { KubeObject } from './objects.ts';

/** A scenario on an empty cluster, with manifests that may be broken on purpose. @throws Error when something was lost, failed, or not as it should be */
export type Scenario = (cluster: KubeCluster, rendered: readonly KubeObject[]) => Promise<void>;

/** Bound of one send's time on a loaded machine of two cores: an election or two, never the delivery deadline. */
const LONGEST_SEND_MS = 10_000;
const SETTLE_TIMEOUT_MS = 60_000;
/** Six looks ten seconds apart, the grace period of one that hears nothing, and the start. */
const RESTART_TIMEOUT_MS = 180_000;
const POLL_MS = 100;
const WATCH_MS = 300;
/** A change of leadership shows in one look or two. */
const LOOKS_IN_A_ROW = 5;
const SET = 'ledgermq-a';

interface Status {
  readonly replicas: readonly {
    readonly role: string;
    readonly replicaId: number;
    readonly voters?: readonly number[];
    readonly learners?: readonly number[];
  }[];
}

/** @throws Error with the problem in its first line, and what happened in the cluster */
function check(cluster: KubeCluster, holds: boolean, problem: string): void {
  if (!holds) throw new Error(`${problem}${tale(cluster)}`);
}
function same(cluster: KubeCluster, actual: unknown, expected: unknown, what: string): void {
  const [found, wanted] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(cluster, found === wanted, `${what}: ${found}, not ${wanted}`);
}

async function deploy(cluster: KubeCluster, rendered: readonly KubeObject[]): Promise<void> {
  for (const block of runbook('kubernetes.md', 'Deploy')) await kubectl(cluster, block, { rendered });
}

async function raftStatus(cluster: KubeCluster, group = 'a'): Promise<Status> {
  return JSON.parse(await cluster.exec(`ledgermq-${group}-0`, 'ledgermq', 'raft', 'status', '--group', group, '--json')) as Status;
}

async function leaderOf(cluster: KubeCluster): Promise<string> {
  const leader = (await raftStatus(cluster)).replicas.find(({ role }) => role === 'leader');
  if (leader === undefined) throw new Error('no leader');
  return `${SET}-${leader.replicaId - 1}`;
}

/** Until exactly these vote, and nobody learns. */
async function votersAre(cluster: KubeCluster, expected: readonly number[]): Promise<void> {
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
  for (;;) {
    const { replicas } = await raftStatus(cluster);
    const { voters, learners } = replicas.find(({ role }) => role === 'leader') ?? {};
    if (String(voters) === String(expected) && learners?.length === 0) return;
    if (performance.now() > deadlineMs) throw new Error(`voters ${voters}, learners ${learners}, not ${expected}${tale(cluster)}`);
    await sleep(POLL_MS);
  }
}

/** Who the replicas are, each as its own directory says. */
async function incarnations(cluster: KubeCluster): Promise<string[]> {
  const pods = cluster.pods(SET).toSorted((a, b) => a.ordinal - b.ordinal);
  const read = async ({ name }: Pod): Promise<string> => {
    const meta = JSON.parse(await cluster.exec(name, 'sh', '-c', 'cat "$LEDGERMQ_DATA_DIR/meta.json"')) as { incarnation: string };
    return `${name} ${meta.incarnation}`;
  };
  return Promise.all(pods.map(read));
}

/** In the order of their ordinals. */
function addresses(cluster: KubeCluster): string[] {
  return cluster
    .pods(SET)
    .toSorted((a, b) => a.ordinal - b.ordinal)
    .map(({ host }) => host.address);
}

/** The fewest pods of the group that served at the same time, from then on. */
function fewestReady(cluster: KubeCluster, sinceMs: number, set = SET): number {
  const ready = new Set<string>();
  let fewest = Number.POSITIVE_INFINITY;
  for (const { atMs, pod, what } of cluster.events) {
    if (!pod.startsWith(`${set}-`)) continue;
    if (what === 'ready') ready.add(pod);
    else if (['not ready', 'terminating', 'crashed', 'gone'].includes(what)) ready.delete(pod);
    if (atMs >= sinceMs) fewest = Math.min(fewest, ready.size);
  }
  return fewest;
}

/** Everything that was acknowledged was consumed, nothing failed, and nothing took long. */
function unharmed(cluster: KubeCluster, report: LoadReport, expected: Partial<LoadReport> = {}): void {
  const { sent, acknowledged, failures, lost, fabricated, duplicated, longestSendMs } = report;
  const outOfOrder = expected.outOfOrder ?? report.outOfOrder;
  same(cluster, { failures, lost, outOfOrder, fabricated }, { failures: [], lost: [], outOfOrder: 0, fabricated: 0 }, 'messages');
  check(cluster, sent > 100 && acknowledged === sent, `${acknowledged} of ${sent} messages were acknowledged`);
  // A consumer that lost its broker gets again what it had not committed: allowed, and few.
  check(cluster, duplicated < sent / 10, `${duplicated} of ${sent} messages came again`);
  check(cluster, longestSendMs < LONGEST_SEND_MS, `a send took ${longestSendMs} ms`);
}

/** Of what was planned nobody notices anything: no replica leads when it is told to end, no newcomer is turned away. */
function unnoticed(cluster: KubeCluster, report: LoadReport, sinceMs: number): void {
  const since = cluster.events.filter(({ atMs }) => atMs >= sinceMs);
  const leading = since.filter(({ what, detail }) => what === 'SIGTERM' && detail === 'leader').map(({ pod }) => pod);
  same(cluster, leading, [], 'replicas that led when SIGTERM came');
  same(
    cluster,
    since.filter(({ what }) => what === 'SIGKILL').map(({ pod }) => pod),
    [],
    'pods that did not end within their grace period',
  );
  same(cluster, [report.refused, report.refusedWith], [0, []], `of ${report.newcomers} newcomers turned away`);
  check(cluster, report.newcomers > 0, 'no newcomers');
}

/** One replica at a time is away, from the first stop to the last start. */
function oneAtATime(cluster: KubeCluster, sinceMs: number, of = 3): void {
  check(cluster, fewestReady(cluster, sinceMs) >= of - 1, `fewer than ${of - 1} of ${of} replicas served`);
}

/** Whether replicas serve, by their own word and not by what a manifest makes of it: for how many looks in a row fewer than two did. */
class ServingWatch {
  #stopped = false;
  #inRow = 0;
  #longest = 0;
  readonly #looking: Promise<void>;

  constructor(cluster: KubeCluster) {
    this.#looking = this.#look(cluster);
  }

  async #look(cluster: KubeCluster): Promise<void> {
    while (!this.#stopped) {
      const answers = await Promise.all(
        cluster.pods(SET).map(async (pod) => !pod.isTerminating && (await cluster.ask(pod, '/readyz')).status === 200),
      );
      this.#inRow = answers.filter((serves) => serves).length < 2 ? this.#inRow + 1 : 0;
      this.#longest = Math.max(this.#longest, this.#inRow);
      await sleep(WATCH_MS);
    }
  }

  async end(): Promise<number> {
    this.#stopped = true;
    await this.#looking;
    return this.#longest;
  }
}

export const devServes: Scenario = async (cluster, rendered) => {
  await kubectl(cluster, 'kubectl apply -k k8s/overlays/dev\nkubectl -n ledgermq rollout status statefulset/ledgermq-a', { rendered });
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 200);
  const sinceMs = performance.now();
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
};

export const rollingUpdate: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const [before, hosts] = [await incarnations(cluster), addresses(cluster)];
  const load = await Load.start(cluster);
  const sinceMs = performance.now();
  const [update] = runbook('kubernetes.md', 'Upgrade, or another setting');
  await kubectl(cluster, update as string, { rendered: withImage(rendered, 'ledgermq:0.1.1') });
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  oneAtATime(cluster, sinceMs);
  same(
    cluster,
    addresses(cluster).filter((address) => hosts.includes(address)),
    [],
    'addresses of pods that were not replaced',
  );
  same(cluster, await incarnations(cluster), before, 'replicas and their data');
  const downTo = cluster.events.filter(({ atMs, what }) => atMs >= sinceMs && what === 'terminating').map(({ pod }) => pod);
  same(cluster, downTo, [`${SET}-2`, `${SET}-1`, `${SET}-0`], 'order of the update');
};

export const nodeLost: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const [before, leader] = [await incarnations(cluster), await leaderOf(cluster)];
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 100);
  const { node, host } = cluster.pod(leader);
  const sinceMs = performance.now();
  const [, lost] = runbook('kubernetes.md', 'Take a node out');
  await kubectl(cluster, lost as string, { words: { NODE: node } });
  await kubectl(cluster, `kubectl rollout status statefulset/${SET}`);
  const back = cluster.pod(leader);
  check(cluster, back.node !== node && back.host.address !== host.address, `${leader} is where it was`);
  await votersAre(cluster, [1, 2, 3]);
  unharmed(cluster, await load.finish());
  oneAtATime(cluster, sinceMs);
  same(cluster, await incarnations(cluster), before, 'replicas and their data');
};

/** A process that hangs and is not dead: nothing but the liveness probe ever ends it. */
export const leaderHangs: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const [before, leader] = [await incarnations(cluster), await leaderOf(cluster)];
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 100);
  const pod = cluster.pod(leader);
  const { restarts } = pod;
  const { address } = pod.host;
  const sinceMs = performance.now();
  pod.signal('SIGSTOP');
  await until(async () => pod.restarts > restarts && pod.isReady, RESTART_TIMEOUT_MS);
  await votersAre(cluster, [1, 2, 3]);
  unharmed(cluster, await load.finish());
  oneAtATime(cluster, sinceMs);
  same(cluster, [cluster.pod(leader).host.address, await incarnations(cluster)], [address, before], 'the pod, replicas and their data');
};

export const nodesDrained: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 100);
  const sinceMs = performance.now();
  const nodes = [...new Set(cluster.pods(SET).map(({ node }) => node))].slice(0, 2);
  const [drain] = runbook('kubernetes.md', 'Take a node out');
  const [line = '', uncordon = ''] = (drain as string).split('\n');
  await Promise.all(nodes.map((node) => kubectl(cluster, line, { words: { NODE: node } })));
  await kubectl(cluster, `kubectl rollout status statefulset/${SET}`);
  for (const node of nodes) await kubectl(cluster, uncordon, { words: { NODE: node } });
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  oneAtATime(cluster, sinceMs);
  same(
    cluster,
    cluster
      .pods(SET)
      .filter(({ node }) => nodes.includes(node))
      .map(({ name }) => name),
    [],
    'pods on drained nodes',
  );
};

export const scaledUpAndDown: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const members = addresses(cluster);
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 100);
  const sinceMs = performance.now();
  for (const block of runbook('kubernetes-scale.md', 'From three replicas to five')) await kubectl(cluster, block);
  await votersAre(cluster, [1, 2, 3, 4, 5]);
  same(
    cluster,
    cluster.volumes.claims(),
    [0, 1, 2, 3, 4].map((ordinal) => `data-${SET}-${ordinal}`),
    'claims',
  );
  for (const block of runbook('kubernetes-scale.md', 'From five to three')) await kubectl(cluster, block);
  await votersAre(cluster, [1, 2, 3]);
  await until(async () => cluster.pods(SET).length === 3);
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  same(cluster, addresses(cluster), members, 'addresses of those that were there');
  same(
    cluster,
    cluster.volumes.claims(),
    [0, 1, 2].map((ordinal) => `data-${SET}-${ordinal}`),
    'claims',
  );
};

export const volumeLost: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const before = await incarnations(cluster);
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 500);
  const sinceMs = performance.now();
  const serving = new ServingWatch(cluster);
  // A drain that comes at the same time must wait until the replica votes again, not until it runs.
  const { node } = cluster.pod(`${SET}-2`);
  const [block = ''] = runbook('kubernetes-volumes.md', 'Replace a volume');
  const [deletePvc = '', deletePod = '', ...rest] = block.split('\n');
  await kubectl(cluster, deletePvc);
  await Promise.all([kubectl(cluster, deletePod), kubectl(cluster, `kubectl drain ${node}`)]);
  await kubectl(cluster, rest.join('\n'));
  await votersAre(cluster, [1, 2, 3]);
  const looks = await serving.end();
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  check(cluster, looks < LOOKS_IN_A_ROW, `fewer than 2 replicas served for ${looks} looks in a row`);
  const changed = (await incarnations(cluster)).filter((each) => !before.includes(each)).map((each) => each.split(' ')[0]);
  same(cluster, changed, [`${SET}-1`], 'replicas with another incarnation');
  await cluster.exec(`${SET}-0`, 'ledgermq', 'verify');
};

/** The group is the overlay's `ledgermq-d`, which comes later: @param rendered with it and without it */
export function groupAdded(withGroup: readonly KubeObject[]): Scenario {
  return async (cluster, rendered) => {
    await deploy(cluster, rendered);
    const members = addresses(cluster);
    const load = await Load.start(cluster);
    for (const block of runbook('kubernetes-scale.md', 'A new group takes load')) await kubectl(cluster, block, { rendered: withGroup });
    await until(async () => (await storedIn(cluster, 'd')) > 50);
    const [leave, gone] = runbook('kubernetes-scale.md', 'A group goes') as [string, string];
    const [drain = '', remove = ''] = leave.split('\n');
    await kubectl(cluster, drain);
    // Refused until every consumer group has consumed what is there.
    await until(() =>
      kubectl(cluster, remove).then(
        () => true,
        () => false,
      ),
    );
    await kubectl(cluster, gone);
    // Keys have moved to other queues and back: no order is promised over that.
    unharmed(cluster, await load.finish(), { outOfOrder: 0 });
    same(cluster, addresses(cluster), members, 'addresses of those that were there');
    same(
      cluster,
      cluster.volumes.claims().filter((claim) => claim.includes('-d-')),
      [],
      'claims that are left',
    );
  };
}

async function storedIn(cluster: KubeCluster, group: string): Promise<number> {
  const topic = JSON.parse(await cluster.exec(`${SET}-0`, 'ledgermq', 'topic', 'describe', 'orders', '--json')) as {
    readonly queues: readonly { readonly brokerName: string; readonly maxOffset: number }[];
  };
  return topic.queues.filter(({ brokerName }) => brokerName === group).reduce((sum, { maxOffset }) => sum + maxOffset, 0);
}

function withImage(rendered: readonly KubeObject[], image: string): KubeObject[] {
  return JSON.parse(JSON.stringify(rendered).replaceAll('"image":"ledgermq:0.1.0"', `"image":"${image}"`)) as KubeObject[];
}

async function until(condition: () => Promise<boolean>, timeoutMs = SETTLE_TIMEOUT_MS): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${timeoutMs} ms`);
    await sleep(POLL_MS);
  }
}
