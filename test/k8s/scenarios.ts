import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeCluster } from './harness/kube-cluster.ts';
import { kubectl, tale } from './harness/kubectl.ts';
import { Load, type LoadReport } from './harness/load.ts';
import { runbook } from './harness/runbook.ts';
import type { KubeObject } from './objects.ts';

/** A scenario on an empty cluster, with manifests that may be broken on purpose. @throws Error when something was lost, failed, or not as it should be */
export type Scenario = (cluster: KubeCluster, rendered: readonly KubeObject[]) => Promise<void>;

/** Bound of one send's time on a loaded machine of two cores: an election or two, never the delivery deadline. */
const LONGEST_SEND_MS = 10_000;
const SETTLE_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
const SET = 'ledgermq-a';

interface Status {
  readonly replicas: readonly {
    readonly role: string;
    readonly replicaId: number;
    readonly voters?: readonly number[];
    readonly learners?: readonly number[];
  }[];
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

function incarnation(cluster: KubeCluster, pod: string): string {
  return (JSON.parse(readFileSync(join(cluster.volumes.path(`data-${pod}`), 'meta.json'), 'utf8')) as { incarnation: string }).incarnation;
}
function incarnations(cluster: KubeCluster): string[] {
  return cluster
    .pods(SET)
    .toSorted((a, b) => a.ordinal - b.ordinal)
    .map(({ name }) => `${name} ${incarnation(cluster, name)}`);
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
  const { failures, lost, outOfOrder, fabricated, duplicated } = report;
  const clean = { failures: [], lost: [], outOfOrder: 0, fabricated: 0 };
  assert.deepEqual({ failures, lost, outOfOrder: expected.outOfOrder ?? outOfOrder, fabricated }, clean, tale(cluster));
  assert.equal(report.acknowledged, report.sent);
  assert.ok(report.sent > 100, `only ${report.sent} messages were sent`);
  // A consumer that lost its broker gets again what it had not committed: allowed, and few.
  assert.ok(duplicated < report.sent / 10, `${duplicated} of ${report.sent} messages came again`);
  assert.ok(report.longestSendMs < LONGEST_SEND_MS, `a send took ${report.longestSendMs} ms${tale(cluster)}`);
}

/** Of what was planned nobody notices anything: no replica leads when it is told to end, no newcomer is turned away. */
function unnoticed(cluster: KubeCluster, report: LoadReport, sinceMs: number): void {
  const told = cluster.events.filter(({ atMs, what }) => atMs >= sinceMs && what === 'SIGTERM');
  assert.deepEqual(
    told.filter(({ detail }) => detail === 'leader').map(({ pod }) => `${pod} led when SIGTERM came`),
    [],
    tale(cluster),
  );
  const killed = cluster.events.filter(({ atMs, what }) => atMs >= sinceMs && what === 'SIGKILL');
  assert.deepEqual(killed, []);
  assert.deepEqual([report.refused, report.refusedWith], [0, []], tale(cluster));
  assert.ok(report.newcomers > 0);
}

/** One replica at a time is away, from the first stop to the last start. */
function oneAtATime(cluster: KubeCluster, sinceMs: number, of = 3): void {
  assert.ok(fewestReady(cluster, sinceMs) >= of - 1, `fewer than ${of - 1} of ${of} replicas served${tale(cluster)}`);
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
  const [before, hosts] = [incarnations(cluster), cluster.pods(SET).map(({ host }) => host.address)];
  const load = await Load.start(cluster);
  const sinceMs = performance.now();
  const [update] = runbook('kubernetes.md', 'Upgrade, or another setting');
  await kubectl(cluster, update as string, { rendered: withImage(rendered, 'ledgermq:0.1.1') });
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  oneAtATime(cluster, sinceMs);
  const addresses = cluster.pods(SET).map(({ host }) => host.address);
  assert.deepEqual(
    addresses.filter((address) => hosts.includes(address)),
    [],
    'a pod was not replaced',
  );
  assert.deepEqual(incarnations(cluster), before, 'a replica came back without its data');
  const downTo = cluster.events.filter(({ atMs, what }) => atMs >= sinceMs && what === 'terminating').map(({ pod }) => pod);
  assert.deepEqual(downTo, [`${SET}-2`, `${SET}-1`, `${SET}-0`]);
};

export const nodeLost: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const [before, leader] = [incarnations(cluster), await leaderOf(cluster)];
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 100);
  const { node, host } = cluster.pod(leader);
  const sinceMs = performance.now();
  const [, lost] = runbook('kubernetes.md', 'Take a node out');
  await kubectl(cluster, lost as string, { words: { NODE: node } });
  await kubectl(cluster, `kubectl rollout status statefulset/${SET}`);
  const back = cluster.pod(leader);
  assert.notEqual(back.node, node);
  assert.notEqual(back.host.address, host.address);
  await votersAre(cluster, [1, 2, 3]);
  unharmed(cluster, await load.finish());
  oneAtATime(cluster, sinceMs);
  assert.deepEqual(incarnations(cluster), before, 'a replica came back without its data');
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
  assert.deepEqual(
    cluster.pods(SET).filter(({ node }) => nodes.includes(node)),
    [],
  );
};

export const scaledUpAndDown: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const members = cluster
    .pods(SET)
    .map(({ host }) => host.address)
    .sort();
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 100);
  const sinceMs = performance.now();
  for (const block of runbook('kubernetes-scale.md', 'From three replicas to five')) await kubectl(cluster, block);
  await votersAre(cluster, [1, 2, 3, 4, 5]);
  assert.deepEqual(
    cluster.volumes.claims(),
    [0, 1, 2, 3, 4].map((ordinal) => `data-${SET}-${ordinal}`),
  );
  for (const block of runbook('kubernetes-scale.md', 'From five to three')) await kubectl(cluster, block);
  await votersAre(cluster, [1, 2, 3]);
  await until(async () => cluster.pods(SET).length === 3);
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  assert.deepEqual(
    cluster
      .pods(SET)
      .map(({ host }) => host.address)
      .sort(),
    members,
    'a member was restarted',
  );
  assert.deepEqual(
    cluster.volumes.claims(),
    [0, 1, 2].map((ordinal) => `data-${SET}-${ordinal}`),
  );
};

export const volumeLost: Scenario = async (cluster, rendered) => {
  await deploy(cluster, rendered);
  const before = incarnations(cluster);
  const load = await Load.start(cluster);
  await until(async () => (await load.acknowledged()) > 500);
  const sinceMs = performance.now();
  for (const block of runbook('kubernetes-volumes.md', 'Replace a volume')) await kubectl(cluster, block);
  await votersAre(cluster, [1, 2, 3]);
  const report = await load.finish();
  unharmed(cluster, report);
  unnoticed(cluster, report, sinceMs);
  oneAtATime(cluster, sinceMs);
  const changed = incarnations(cluster)
    .filter((each) => !before.includes(each))
    .map((each) => each.split(' ')[0]);
  assert.deepEqual(changed, [`${SET}-1`]);
  await cluster.exec(`${SET}-0`, 'ledgermq', 'verify');
};

/** The group is the overlay's `ledgermq-d`, which comes later: @param rendered with it and without it */
export function groupAdded(withGroup: readonly KubeObject[]): Scenario {
  return async (cluster, rendered) => {
    await deploy(cluster, rendered);
    const members = cluster
      .pods(SET)
      .map(({ host }) => host.address)
      .sort();
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
    assert.deepEqual(
      cluster
        .pods(SET)
        .map(({ host }) => host.address)
        .sort(),
      members,
      'a running group was restarted',
    );
    assert.deepEqual(
      cluster.volumes.claims().filter((claim) => claim.includes('-d-')),
      [],
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

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${SETTLE_TIMEOUT_MS} ms`);
    await sleep(POLL_MS);
  }
}
