import type { Clock } from '../io/clock.ts';
import type { ReplicaId } from '../raft/types.ts';
import { RepairKind, RepairStatus } from './repair-frames.ts';
import type { RepairPeers } from './repair-peers.ts';

const ASK_INTERVAL_MS = 500;

export interface VoteFloorPorts {
  readonly clock: Clock;
  readonly peers: Pick<RepairPeers, 'ask' | 'reachable'>;
  /** All other voters. */
  others(): readonly ReplicaId[];
  onEvent(name: string, fields: Record<string, string | number>): void;
}

/**
 * The floor for votes that damage in the last write left (I4) is lifted when every other voter was heard and none has the log whole
 * up to it: then no majority ever had it. A leader that overwrites it lifts it, too; so that a group of one, or one whose others
 * are behind, does not wait for what cannot come.
 */
export class VoteFloorQuestion {
  readonly #ports: VoteFloorPorts;
  #stopped = false;

  constructor(ports: VoteFloorPorts) {
    this.#ports = ports;
  }

  /**
   * Asks until it is known, or the floor is gone.
   * @param current the floor now; 0 = lifted by a leader
   * @param lift every voter was heard, none has it
   */
  async ask(current: () => number, lift: () => void): Promise<void> {
    const { clock, onEvent, others } = this.#ports;
    for (let waits = false; !this.#stopped; waits = true) {
      const floor = current();
      if (floor === 0) return;
      const without = await this.#without(floor);
      if (this.#stopped || current() !== floor) continue;
      if (others().every((id) => without.has(id))) {
        onEvent('vote floor lifted', { index: floor });
        lift();
        return;
      }
      if (!waits) onEvent('vote floor waits', { index: floor, heard: without.size, of: others().length });
      await new Promise<void>((resolve) => {
        clock.setTimer(ASK_INTERVAL_MS, resolve);
      });
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  async #without(floor: number): Promise<Set<ReplicaId>> {
    const { peers } = this.#ports;
    const without = new Set<ReplicaId>();
    const answers = peers.reachable.map(async (peer) => {
      const answer = await peers.ask(peer, RepairKind.floor, floor, 0);
      if (answer?.status === RepairStatus.missing) without.add(peer);
    });
    await Promise.all(answers);
    return without;
  }
}
