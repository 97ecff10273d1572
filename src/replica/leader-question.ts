import type { Clock } from '../io/clock.ts';
import type { ReplicaId } from '../raft/types.ts';
import { RepairStopped } from './repair.ts';
import { RepairKind, RepairStatus } from './repair-frames.ts';
import type { RepairPeers } from './repair-peers.ts';

const ASK_INTERVAL_MS = 500;

export interface LeaderQuestionPorts {
  readonly clock: Clock;
  readonly peers: Pick<RepairPeers, 'ask' | 'reachable' | 'isStopped'>;
  onEvent(name: string, fields: Record<string, string | number>): void;
}

/**
 * Waits until another replica leads the group, with a majority that confirms it now. Whoever asks has said no word of Raft since its
 * start, so that majority is one without it: all that the group has acknowledged is there, and what lies here is not needed (I5).
 * Two replicas that have both lost what they held wait for each other for ever, and rightly so: then a majority is lost.
 * Rejects with RepairStopped.
 */
export async function untilOthersLead({ clock, peers, onEvent }: LeaderQuestionPorts): Promise<ReplicaId> {
  for (let waits = false; !peers.isStopped; waits = true) {
    const asked = peers.reachable;
    const answers = await Promise.all(asked.map((peer) => peers.ask(peer, RepairKind.leads, 0, 0)));
    const leader = asked.find((_, at) => answers[at]?.status === RepairStatus.ok);
    if (leader !== undefined) return leader;
    if (!waits) onEvent('waits for a majority of the others', { reached: asked.length });
    await new Promise<void>((resolve) => {
      clock.setTimer(ASK_INTERVAL_MS, resolve);
    });
  }
  throw new RepairStopped('stopped');
}
