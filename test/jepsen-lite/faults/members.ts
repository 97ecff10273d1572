import { setTimeout as sleep } from 'node:timers/promises';
import { MEMBERS, SPARE } from '../cluster/chaos-cluster.ts';
import type { ChaosReplica } from '../cluster/replica.ts';
import { first, type StartFault } from './fault.ts';

const CHANGE_TIMEOUT_MS = 60_000;
const EVERYBODY = [...MEMBERS, SPARE];

/** The fourth comes and goes; or it stands in while one of the three is replaced by an empty one under its id. */
const membership: StartFault = async ({ cluster, order, prng, holdMs }) => {
  const spare = cluster.replica(SPARE);
  const replaced = prng.chance(0.5) ? first(order) : null;
  const texts: string[] = [];
  const change = async (kind: 'add' | 'remove', replica: ChaosReplica): Promise<void> => {
    const { changed, tookMs } = JSON.parse(await cluster.changeMembers(kind, replica, CHANGE_TIMEOUT_MS)) as {
      changed: boolean;
      tookMs: number;
    };
    texts.push(`${kind} ${replica.id}: ${changed ? `done in ${tookMs} ms` : 'was so already'}`);
  };
  const startEmpty = (replica: ChaosReplica): void => {
    replica.volume.wipe();
    replica.start(EVERYBODY);
  };
  let removed = false;
  const replace = async (replica: ChaosReplica): Promise<void> => {
    await change('remove', replica);
    removed = true;
    await replica.end('SIGKILL');
    startEmpty(replica);
    await change('add', replica);
    removed = false;
  };
  /** Each change may be asked for again; the three are to be the members when it is over, whatever went wrong. */
  const all = async (): Promise<boolean> => {
    try {
      startEmpty(spare);
      await change('add', spare);
      await sleep(holdMs);
      if (replaced !== null) await replace(replaced);
      await change('remove', spare);
      return true;
    } catch (error) {
      texts.push(error instanceof Error ? error.message : String(error));
    }
    try {
      if (replaced !== null && removed) {
        replaced.start(EVERYBODY);
        await change('add', replaced);
      }
      await change('remove', spare);
    } catch (error) {
      texts.push(error instanceof Error ? error.message : String(error));
    }
    return false;
  };
  const over = all();
  return {
    targets: [spare.name, ...(replaced === null ? [] : [replaced.name])],
    over,
    end: async () => {
      const done = await over;
      await spare.end('SIGKILL');
      return { fired: done, text: texts.join(', ') };
    },
  };
};

export const MEMBER_FAULTS: Readonly<Record<string, StartFault>> = { membership };
