import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TestCluster, until } from '../e2e/test-cluster.ts';
import { type CheckResult, checkHistory } from './checkers/check.ts';
import { HistoryWriter, mergeHistories } from './history.ts';
import { reportPage } from './report/report.ts';
import { WorkerProcess } from './worker-process.ts';

const RATE = 200;
/** Operations of each worker in each third of the run. */
const OPERATIONS = 40;
const WORKERS = [
  ['fifo', 3],
  ['offsets', 2],
  ['transactions', 1],
  ['delay', 1],
  ['rebalance', 1],
  ['metadata', 1],
] as const;

let cluster: TestCluster;
let dir: string;
const workers: WorkerProcess[] = [];
beforeAll(async () => {
  cluster = await TestCluster.start({ transactionCheckIntervalMs: 2_000 });
});
afterAll(() => cluster.stop());
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ledgermq-history-'));
});
afterEach(() => {
  for (const worker of workers.splice(0)) worker.kill();
  rmSync(dir, { recursive: true, force: true });
});

const anomalies = (result: CheckResult): readonly string[] =>
  result.checkers.flatMap((checker) => checker.anomalies.map(({ text }) => text));

describe('F43 workers on real brokers', () => {
  test('all workloads beside each other, the leader killed midway: everything is accounted for, nothing is wrong', async () => {
    const originNs = process.hrtime.bigint();
    const nemesisPath = join(dir, 'nemesis.jsonl');
    const nemesis = new HistoryWriter(nemesisPath, originNs);
    const { endpoints } = cluster.local;
    for (const [workload, count] of WORKERS) {
      for (let id = 0; id < count; id++) {
        const history = join(dir, `${workload}-${id}.jsonl`);
        workers.push(new WorkerProcess({ endpoints, workload, id, seed: 1, originNs, history, rate: RATE }));
      }
    }
    await Promise.all(workers.map((worker) => worker.ready()));
    const done = (times: number) =>
      until(`${OPERATIONS} operations of each`, () => workers.every(({ progress }) => progress.ok >= times * OPERATIONS), 90_000);
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
    const faults = { 'kill-leader': { planned: 1, fired: 1, evidence: ['exit by SIGKILL'] } };
    const context = { seed: 1, minutes: 1, faults, benchMsgsPerS: 1, verify: [{ brokerName: 'a', identical: true }] };
    const result = checkHistory(lines, context);
    expect(anomalies(result)).toEqual([]);
    // How long the time without a fault was depends on the machine.
    expect(result.reasons.filter((reason) => !reason.includes('time without a fault'))).toEqual([]);
    expect(result.acknowledgedMessages).toBeGreaterThan(OPERATIONS * workers.length);
    expect([...result.operations.byName.keys()].sort()).toEqual(
      expect.arrayContaining([
        'begin',
        'check',
        'commit',
        'create',
        'delete',
        'describe',
        'die',
        'drain',
        'effect',
        'end',
        'fetch',
        'join',
        'leave',
        'poll',
        'read',
        'reset',
        'send',
        'settle',
      ]),
    );
    expect(reportPage(lines, result, context)).toContain('kill-leader');
  });
});
