import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VerifyResult } from '../../src/cli/verify-replicas.ts';
import { assertHostsPossible } from '../support/net-hosts.ts';
import { ChaosCluster, type ClusterTools } from './cluster/chaos-cluster.ts';
import { HistoryWriter } from './history.ts';
import { type ChaosVerdict, judge } from './judge.ts';
import { Nemesis } from './nemesis.ts';
import type { ChaosOptions } from './options.ts';
import type { Outcome } from './outcome.ts';
import { OPENING_MS } from './schedule.ts';
import { workerPlans } from './worker-plans.ts';
import { ChaosWorker } from './workers.ts';

const BENCH_S = 6;
const BENCH_WARMUP_S = 2;
/** Of the bench: about as many sends are under way as in a workload's lanes. */
const BENCH_CONCURRENCY = 8;
const BENCH_BODY_BYTES = 512;
/** Drains of workers have deadlines of their own. */
const FINISH_TIMEOUT_MS = 300_000;
const FINAL_RECOVERY_TIMEOUT_MS = 120_000;
const VERIFY_TIMEOUT_S = 120;
const PROGRESS_MS = 10_000;

/** A whole run: hosts, replicas, clients, faults, comparison, histories, report. Nothing of it is left but the directory. */
export async function runChaos(options: ChaosOptions, stop: AbortSignal): Promise<ChaosVerdict> {
  const { out, schedule } = options;
  await assertHostsPossible();
  for (const name of ['logs', 'histories']) mkdirSync(join(out, name), { recursive: true });
  writeFileSync(join(out, 'schedule.json'), `${JSON.stringify(schedule, null, 2)}\n`);
  const say = sayer();
  say(`seed ${schedule.seed}, ${schedule.rounds.length} rounds of faults in ${schedule.minutes} minutes; ${out}`);
  const cluster = await ChaosCluster.create(join(out, 'logs'), toolsFor(schedule.faults));
  // Faults wait for what they have done; whoever interrupts does not.
  const interrupted = new Promise<never>((_, reject) => {
    const cut = (): void => reject(new Error('interrupted'));
    if (stop.aborted) cut();
    else stop.addEventListener('abort', cut);
  });
  let outcome: Outcome;
  const historyFiles: string[] = [join(out, 'histories', 'nemesis.jsonl')];
  try {
    outcome = await Promise.race([interrupted, underFaults(cluster, options, historyFiles, say, stop)]);
  } catch (error) {
    if (!stop.aborted) throw error;
    return { verdict: 'unknown', summary: `seed ${schedule.seed}: interrupted; ${out}` };
  } finally {
    await cluster.destroy();
  }
  return judge(options, historyFiles, outcome, say);
}

/** Seconds since the beginning before each line, on standard error. */
function sayer(): (text: string) => void {
  const startMs = performance.now();
  return (text) => process.stderr.write(`${((performance.now() - startMs) / 1000).toFixed(1).padStart(7)}  ${text}\n`);
}

function toolsFor(faults: readonly string[]): ClusterTools {
  const shimmed = ['fsync-error', 'write-error', 'short-write', 'torn-write', 'power-loss', 'power-loss-all'];
  return { shim: faults.some((name) => shimmed.includes(name)), clock: faults.includes('clock'), relay: faults.includes('delay') };
}

async function underFaults(
  cluster: ChaosCluster,
  { out, schedule, workloads }: ChaosOptions,
  historyFiles: string[],
  say: (text: string) => void,
  stop: AbortSignal,
): Promise<Outcome> {
  await cluster.start();
  say('three replicas are ready');
  const benchMsgsPerS = await bench(cluster);
  say(`bench without faults: ${benchMsgsPerS} messages/s`);
  const originNs = process.hrtime.bigint();
  const history = new HistoryWriter(historyFiles[0] as string, originNs, true);
  const workers: ChaosWorker[] = [];
  for (const [at, plan] of workerPlans(workloads, benchMsgsPerS).entries()) {
    const host = cluster.clients[at % cluster.clients.length] as (typeof cluster.clients)[number];
    const worker = new ChaosWorker(cluster, host, plan, { seed: schedule.seed, originNs, out });
    workers.push(worker);
    historyFiles.push(worker.historyFile);
  }
  await Promise.all(workers.map((worker) => worker.ready()));
  say(`${workers.length} clients at work; faults begin in ${OPENING_MS / 1000} s`);
  const ticker = setInterval(() => {
    // Its volumes are gone, or about to be.
    if (stop.aborted) return;
    const total = (what: 'ok' | 'fail' | 'info'): number => workers.reduce((sum, { progress }) => sum + progress[what], 0);
    const freeMiB = Math.min(...cluster.members.map(({ volume }) => volume.freeBytes)) >> 20;
    say(`operations: ${total('ok')} ok, ${total('fail')} failed, ${total('info')} unknown; ${freeMiB} MiB free on the fullest volume`);
  }, PROGRESS_MS);
  try {
    const nemesis = await new Nemesis(cluster, schedule, history, say, stop).run();
    const problems = [...nemesis.problems];
    const doubts: string[] = [];
    if (stop.aborted) throw new Error('interrupted');
    if (nemesis.roundsDone < schedule.rounds.length)
      doubts.push(`${nemesis.roundsDone} of ${schedule.rounds.length} rounds were carried out`);
    say('no more faults; clients finish');
    const ends = await Promise.all(workers.map((worker) => worker.finish(FINISH_TIMEOUT_MS)));
    doubts.push(...ends.filter((end) => end !== null));
    const trouble = await cluster.waitRecovered(FINAL_RECOVERY_TIMEOUT_MS, stop);
    if (trouble !== null) problems.push(`not whole at the end: ${trouble}`);
    const verify = trouble === null ? await compare(cluster, say) : null;
    return { nemesis, benchMsgsPerS, verify, problems, doubts };
  } finally {
    clearInterval(ticker);
    history.close();
  }
}

/** The same client on the same hosts, before the first fault. */
async function bench(cluster: ChaosCluster): Promise<number> {
  const args = ['bench', 'produce', '--mode', 'sync', '--topic', 'chaos-bench', '--json'];
  args.push('--concurrency', String(BENCH_CONCURRENCY), '--size', String(BENCH_BODY_BYTES));
  args.push('--seconds', String(BENCH_S), '--warmup', String(BENCH_WARMUP_S));
  const { msgs_per_s } = JSON.parse(await cluster.cli(args, 60_000)) as { msgs_per_s: number };
  return Math.round(msgs_per_s);
}

async function compare(cluster: ChaosCluster, say: (text: string) => void): Promise<readonly VerifyResult[] | null> {
  try {
    const text = await cluster.cli(['verify', '--json', '--timeout', String(VERIFY_TIMEOUT_S)], VERIFY_TIMEOUT_S * 2000);
    return (JSON.parse(text) as { groups: VerifyResult[] }).groups;
  } catch (error) {
    // It exits with 1 when they differ, and says how all the same.
    const { stdout } = error as { stdout?: string };
    if (stdout?.startsWith('{') === true) return (JSON.parse(stdout) as { groups: VerifyResult[] }).groups;
    say(`verify: ${(error as Error).message}`);
    return null;
  }
}
