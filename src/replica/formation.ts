import type { ReplicaId } from '../raft/types.ts';

/** What a replica says of itself when a link opens, before any Raft message. */
export interface PeerIdentity {
  readonly replicaId: ReplicaId;
  /** Made once, with the data directory, before the first word is spoken. */
  readonly incarnation: string;
  /** replica id → incarnation at formation; null while the group is not formed as far as this replica knows. */
  readonly formedWith: Readonly<Record<string, string>> | null;
  /** Highest feature level that its release can read. Missing: the first. */
  readonly maxFeatureLevel?: number;
  /** Of its group's state, as far as it has applied it. Missing: the first. */
  readonly featureLevel?: number;
  /** Of its group's membership (`raft recover`). Missing: 0. */
  readonly epoch?: number;
  /** Where it is reached, its client port. Missing: an older release. */
  readonly host?: string;
  readonly port?: number;
}

export type FormationVerdict =
  /** The group is formed, and so says this peer. */
  | 'formed'
  /** The group is not formed yet as far as this replica or that peer knows: keep the link, speak no Raft. */
  | 'waiting'
  /** The group was formed without this replica, which is new or lost its directory: it takes part when the leader has added it (I5). */
  | 'joining';

/**
 * A group is formed once: when all configured replicas were heard and all are empty (I5, FAULTS 6).
 *
 * Each replica records the incarnations of all, until the log says who belongs to the group. A replica whose directory was emptied
 * comes back with another incarnation than the others know, and is not the voter of that id any more: it may have acknowledged
 * what it no longer holds. It hears of the formation and waits to be added. Two emptied volumes out of three can never form
 * a group of their own, because formation needs every configured replica, and the third is formed.
 */
export class Formation {
  readonly #own: PeerIdentity;
  readonly #configured: readonly ReplicaId[];
  readonly #heard = new Map<ReplicaId, string>();
  #formedWith: Readonly<Record<string, string>> | null;

  constructor(own: PeerIdentity, configured: readonly ReplicaId[]) {
    this.#own = own;
    this.#configured = configured;
    this.#formedWith = own.formedWith;
    this.#heard.set(own.replicaId, own.incarnation);
    this.#formWhenComplete();
  }

  /** null until formed. The owner writes it to meta.json before it says it to anybody. */
  get formedWith(): Readonly<Record<string, string>> | null {
    return this.#formedWith;
  }

  hear(peer: PeerIdentity): FormationVerdict {
    if (this.#formedWith !== null) return peer.formedWith === null ? 'waiting' : 'formed';
    if (peer.formedWith !== null) {
      const own = peer.formedWith[this.#own.replicaId] === this.#own.incarnation;
      // Formed with this replica, but not by those whom it was waiting for: somebody was configured with a part of the group only, and
      // met this one while it was empty. It must not become a second group of that name.
      if (own && !this.#isConfigured(peer.formedWith)) return 'waiting';
      this.#formedWith = peer.formedWith;
      return peer.formedWith[this.#own.replicaId] === this.#own.incarnation ? 'formed' : 'joining';
    }
    this.#heard.set(peer.replicaId, peer.incarnation);
    this.#formWhenComplete();
    return this.#formedWith === null ? 'waiting' : 'formed';
  }

  /** An unformed peer's link ended: it may come back emptied, so it must be heard again. */
  lost(peer: ReplicaId): void {
    if (this.#formedWith === null) this.#heard.delete(peer);
  }

  /** Configured replicas not heard yet: what /startupz shows while the group waits. */
  missing(): ReplicaId[] {
    return this.#formedWith !== null ? [] : this.#configured.filter((id) => !this.#heard.has(id));
  }

  #isConfigured(formedWith: Readonly<Record<string, string>>): boolean {
    const ids = Object.keys(formedWith).map(Number);
    return ids.length === this.#configured.length && ids.every((id) => this.#configured.includes(id));
  }

  #formWhenComplete(): void {
    if (this.#formedWith !== null || !this.#configured.every((id) => this.#heard.has(id))) return;
    this.#formedWith = Object.fromEntries(this.#configured.map((id) => [String(id), this.#heard.get(id) as string]));
  }
}
