import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TestCluster, until } from '../e2e/test-cluster.ts';
import { type CheckResult, checkHistory } from './checkers/check.ts';
import { type HistoryLine, HistoryWriter, mergeHistories } from './history.ts';
import { WorkerProcess } from './worker-process.ts';

let cluster: TestCluster;
let dir: string;
const workers: WorkerProcess[] = [];
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ledgermq-history-'));
});
afterEach(() => {
  for (const worker of workers.splice(0)) worker.kill();
  rmSync(dir, { recursive: true, force: true });
});

/** Runs workers of one workload while the leader is killed and comes back. @returns what the checkers say of their history */
async function run(
  workload: string,
  count: number,
  rate: number,
  operations: number,
): Promise<{ result: CheckResult; lines: HistoryLine[] }> {
  const originNs = process.hrtime.bigint();
  const nemesisPath = join(dir, 'nemesis.jsonl');
  const nemesis = new HistoryWriter(nemesisPath, originNs);
  for (let id = 0; id < count; id++) {
    const history = join(dir, `${workload}-${id}.jsonl`);
    workers.push(new WorkerProcess({ endpoints: cluster.local.endpoints, workload, id, seed: 1, originNs, history, rate }));
  }
  await Promise.all(workers.map((worker) => worker.ready()));
  // So many more operations of each, in each third.
  const done = (times: number) =>
    until(`${operations} operations of each`, () => workers.every(({ progress }) => progress.ok >= times * operations), 60_000);
  await done(1);
  const leader = (await cluster.local.leader()) as number;
  nemesis.line('info', 'nemesis', 'kill-leader', { phase: 'begin', id: 1, targets: [leader] });
  await cluster.local.kill(leader);
  await done(2);
  await cluster.local.restart(leader);
  nemesis.line('info', 'nemesis', 'kill-leader', { phase: 'end', id: 1, targets: [leader] });
  nemesis.close();
  await done(3);
  const codes = await Promise.all(workers.map((worker) => worker.finish()));
  expect(workers.map(({ stderr }) => stderr).join('')).toBe('');
  expect(codes).toEqual(workers.map(() => 0));
  const lines = [...mergeHistories([nemesisPath, ...workers.map(({ options }) => options.history)])];
  const context = {
    seed: 1,
    minutes: 1,
    faults: { 'kill-leader': { planned: 1, fired: 1, evidence: ['exit'] } },
    benchMsgsPerS: rate,
    verify: [{ brokerName: 'a', identical: true }],
  };
  return { result: checkHistory(lines, context), lines };
}

const anomalies = (result: CheckResult): readonly string[] =>
  result.checkers.flatMap((checker) => checker.anomalies.map(({ text }) => text));

describe('workers on real brokers, the leader killed midway', () => {
  test('F43 fifo: everything is accounted for', async () => {
    const { result } = await run('fifo', 3, 1_000, 50);
    expect(anomalies(result)).toEqual([]);
    expect(result.reasons.filter((reason) => !reason.includes('quarter') && !reason.includes('no time'))).toEqual([]);
    expect(result.acknowledgedMessages).toBeGreaterThan(1_000);
    // Two groups, each the whole log.
    expect(result.deliveredMessages).toBeGreaterThanOrEqual(2 * result.acknowledgedMessages);
  });
});
