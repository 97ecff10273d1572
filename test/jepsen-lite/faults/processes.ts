import { setTimeout as sleep } from 'node:timers/promises';
import { MEMBERS } from '../cluster/chaos-cluster.ts';
import type { ChaosReplica } from '../cluster/replica.ts';
import { losePower } from '../shim/undo.ts';
import { type Evidence, first, type StartFault } from './fault.ts';

const READY_TIMEOUT_MS = 60_000;
/** Of SIGTERM: a drain may take ten seconds. */
const END_TIMEOUT_MS = 30_000;
const STATE_POLL_MS = 20;
const STATE_TIMEOUT_MS = 2_000;

/** What shows that processes were killed and came back as others. */
function killed(replicas: readonly ChaosReplica[], before: readonly (number | null)[], signals: readonly (string | null)[]): Evidence {
  const texts = replicas.map(({ name, pid }, at) => `${name} ended by ${signals[at]}, ${before[at]} → ${pid}`);
  return {
    fired: replicas.every(({ pid }, at) => signals[at] === 'SIGKILL' && pid !== null && pid !== before[at]),
    text: texts.join(', '),
  };
}

const kill =
  (count: number): StartFault =>
  async ({ order }) => {
    const replicas = order.slice(0, count);
    const before = replicas.map(({ pid }) => pid);
    const exits = await Promise.all(replicas.map((replica) => replica.end('SIGKILL')));
    return {
      targets: replicas.map(({ name }) => name),
      end: async () => {
        for (const replica of replicas) replica.start(MEMBERS);
        return killed(
          replicas,
          before,
          exits.map(({ signal }) => signal),
        );
      },
    };
  };

/** Killed, and what was not synced is gone, all of it or a part. */
const powerLoss =
  (count: number): StartFault =>
  async ({ order, prng }) => {
    const replicas = order.slice(0, count);
    const before = replicas.map(({ pid }) => pid);
    const exits = await Promise.all(replicas.map((replica) => replica.end('SIGKILL')));
    const lost = replicas.map(({ shim, volume }) => {
      if (shim === null) throw new Error('no shim');
      return losePower(shim.arenaPath, volume.path, prng.chance(0.5) ? 'all' : 'some', prng);
    });
    return {
      targets: replicas.map(({ name }) => name),
      end: async () => {
        for (const replica of replicas) replica.start(MEMBERS);
        const { fired, text } = killed(
          replicas,
          before,
          exits.map(({ signal }) => signal),
        );
        const what = lost.map(({ changes, bytes, names }) => `${changes} writes (${bytes} bytes) and ${names} names`).join('; ');
        return { fired, text: `${text}; lost: ${what}` };
      },
    };
  };

const pause: StartFault = async ({ order }) => {
  const replica = first(order);
  const { pid } = replica;
  replica.signal('SIGSTOP');
  const stopped = await untilState(replica, (state) => state === 'T');
  return {
    targets: [replica.name],
    end: async () => {
      const stillStopped = replica.pid === pid && replica.processState() === 'T';
      replica.signal('SIGCONT');
      const runs = await untilState(replica, (state) => state !== 'T');
      return { fired: stopped && stillStopped && runs, text: `process ${pid} of ${replica.name} was in state T until SIGCONT` };
    },
  };
};

async function untilState(replica: ChaosReplica, wanted: (state: string | null) => boolean): Promise<boolean> {
  const deadlineMs = performance.now() + STATE_TIMEOUT_MS;
  while (!wanted(replica.processState())) {
    if (performance.now() > deadlineMs) return false;
    await sleep(STATE_POLL_MS);
  }
  return true;
}

const rollingRestart: StartFault = async ({ cluster, order }) => {
  const texts: string[] = [];
  let fired = true;
  const restartEach = async (): Promise<void> => {
    for (const replica of order) {
      const before = replica.pid;
      const ending = replica.end('SIGTERM');
      const exit = await replica.exited(END_TIMEOUT_MS);
      // It must not hold up the run; that it did not end shows in the evidence.
      if (exit === null) replica.signal('SIGKILL');
      await ending;
      replica.start(MEMBERS);
      texts.push(`${replica.name} ended with ${exit?.code ?? exit?.signal ?? 'nothing in time'}, ${before} → ${replica.pid}`);
      fired &&= exit?.code === 0;
      await cluster.waitRecovered(READY_TIMEOUT_MS);
    }
  };
  const over = restartEach();
  return {
    targets: order.map(({ name }) => name),
    over,
    end: async () => {
      await over;
      return { fired, text: texts.join(', ') };
    },
  };
};

export const PROCESS_FAULTS: Readonly<Record<string, StartFault>> = {
  'kill-one': kill(1),
  'kill-majority': kill(2),
  'kill-all': kill(3),
  'power-loss': powerLoss(1),
  'power-loss-all': powerLoss(3),
  pause,
  'rolling-restart': rollingRestart,
};
