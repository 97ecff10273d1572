import { assert } from '../base/assert.ts';
import { verifyGroup } from '../log/group-codec.ts';
import { ENTRY_HEADER_BYTES, Entry, GROUP_HEADER_BYTES } from '../log/layout.ts';
import type { CheckedGroup, GroupFault, Log } from '../log/types.ts';
import type { AppendRequest, Effects, GroupMeta, Message, RaftCore } from '../raft/types.ts';
import type { DurableState } from './durable-state.ts';
import { decodeMembership } from './membership.ts';
import { EntryType } from './types.ts';

export interface DriverPorts {
  readonly raft: RaftCore;
  readonly log: Log;
  readonly durable: DurableState;
  /** Sends a message, with its bytes if it is an append. */
  deliver(message: Message): void;
  committed(commitIndex: number): void;
  reads(reads: Effects['reads']): void;
  roleChanged(change: NonNullable<Effects['roleChange']>): void;
  install(install: NonNullable<Effects['install']>): void;
  /** The log refused what the core has accepted: this replica cannot go on. */
  failed(error: unknown): void;
}

interface Incoming {
  readonly groups: readonly CheckedGroup[];
  readonly bytes: Uint8Array;
}

/** Messages held back behind a vote that is being written; beyond, the newest are dropped: Raft repeats what matters. */
const MAX_HELD_MESSAGES = 4096;

/**
 * The loop between the Raft core and the world: event in, effects out, until there are none. Two rules live here.
 *
 * 1. What depends on a term or vote waits until that is on stable storage: messages are held back in order, and so are the
 *    own disk's reports (in a group of one they would commit at once).
 * 2. Bytes are verified before the core hears of them, so that it never accepts an entry that the log then refuses.
 */
export class RaftDriver {
  readonly #ports: DriverPorts;
  #held: Message[] = [];
  #heldStored: { lastIndex: number; term: number } | null = null;
  #incoming: Incoming | null = null;
  #running = false;

  constructor(ports: DriverPorts) {
    this.#ports = ports;
  }

  /** Carries out what the core wants. Call after every event given to it. */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let effects = this.#take(); effects !== null; effects = this.#take()) this.#carryOut(effects);
    } finally {
      this.#running = false;
    }
  }

  step(message: Message): void {
    this.#ports.raft.step(message);
    this.run();
  }

  /** @returns why the bytes are not what they should be, null when they were taken */
  stepAppend(message: AppendRequest, bytes: Uint8Array): GroupFault | null {
    const groups: CheckedGroup[] = [];
    const metas: GroupMeta[] = [];
    let index = message.firstIndex;
    let chain: number | null = null;
    for (let at = 0; at < bytes.length; ) {
      const verified = verifyGroup(bytes.subarray(at));
      if (!verified.ok) return verified.reason;
      const { header } = verified;
      if (header.firstIndex !== index) return 'index';
      if (chain !== null && header.previousChecksum !== chain) return 'chain';
      groups.push(verified);
      metas.push(withMembership(header, header.entryCount, bytes.subarray(at + GROUP_HEADER_BYTES, at + header.dataBytes)));
      chain = verified.lastChecksum;
      index = header.lastIndex + 1;
      at += header.sizeBytes;
    }
    if (index !== message.lastIndex + 1 && bytes.length > 0) return 'index';
    // The core cannot take back what it accepted, so it is not told of what finds no room: it hears its leader, says how far
    // it is, and the leader sends the rest again.
    if (bytes.length > 0 && !this.#ports.log.hasRoom(bytes.length)) {
      this.step({ ...message, lastIndex: message.firstIndex - 1, groups: [] });
      return null;
    }
    this.#incoming = { groups, bytes };
    try {
      this.step({ ...message, groups: metas });
    } finally {
      this.#incoming = null;
    }
    return null;
  }

  /** The own disk is durable up to `lastIndex`. */
  stored(lastIndex: number, term: number): void {
    if (!this.#ports.durable.settled) {
      this.#heldStored = { lastIndex, term };
      return;
    }
    this.#ports.raft.stored(lastIndex, term);
    this.run();
  }

  #take(): Effects | null {
    const effects = this.#ports.raft.takeEffects();
    const empty =
      effects.hardState === null &&
      effects.commitIndex === null &&
      effects.roleChange === null &&
      effects.install === null &&
      effects.store.length === 0 &&
      effects.messages.length === 0 &&
      effects.reads.length === 0;
    return empty ? null : effects;
  }

  #carryOut(effects: Effects): void {
    if (effects.hardState !== null) this.#ports.durable.saveVote(effects.hardState, () => this.#settled());
    for (const store of effects.store) this.#store(store.truncateFrom, store.groups);
    // Before the messages: a step down must be known before anything is answered in the old role.
    if (effects.roleChange !== null) this.#ports.roleChanged(effects.roleChange);
    for (const message of effects.messages) {
      if (this.#ports.durable.settled && this.#held.length === 0) this.#ports.deliver(message);
      else if (this.#held.length < MAX_HELD_MESSAGES) this.#held.push(message);
    }
    if (effects.commitIndex !== null) this.#ports.committed(effects.commitIndex);
    if (effects.reads.length > 0) this.#ports.reads(effects.reads);
    if (effects.install !== null) this.#ports.install(effects.install);
  }

  #settled(): void {
    if (!this.#ports.durable.settled) return;
    const held = this.#held;
    this.#held = [];
    for (const message of held) this.#ports.deliver(message);
    const stored = this.#heldStored;
    this.#heldStored = null;
    if (stored !== null) this.#ports.raft.stored(stored.lastIndex, stored.term);
    this.run();
  }

  /** A report of a write that is cut now must not be told later: the same index and term may have been written again, and not be durable. */
  #cutHeldStored(truncateFrom: number): void {
    const held = this.#heldStored;
    if (held === null || held.lastIndex < truncateFrom) return;
    const lastIndex = truncateFrom - 1;
    this.#heldStored = lastIndex === 0 ? null : { lastIndex, term: this.#ports.log.termAt(lastIndex) };
  }

  #store(truncateFrom: number | null, groups: readonly GroupMeta[]): void {
    const { log } = this.#ports;
    if (truncateFrom !== null) {
      this.#cutHeldStored(truncateFrom);
      log.truncateFrom(truncateFrom).catch((error: unknown) => this.#ports.failed(error));
    }
    if (groups.length === 0) return;
    const incoming = this.#incoming;
    assert(incoming !== null, 'entries to store without their bytes');
    const skipped = incoming.groups.length - groups.length;
    let offset = 0;
    for (let at = 0; at < skipped; at++) offset += (incoming.groups[at] as CheckedGroup).header.sizeBytes;
    const result = log.appendGroups(incoming.bytes.subarray(offset), incoming.groups.slice(skipped));
    if (!result.ok && result.reason !== 'poisoned') this.#ports.failed(new Error(`log refused verified groups: ${result.reason}`));
  }
}

/** A membership is the only entry of its group. @param entry header and body, verified; a view */
export function withMembership(group: GroupMeta, entryCount: number, entry: Uint8Array): GroupMeta {
  if (entryCount !== 1 || entry[Entry.type] !== EntryType.membership) return group;
  const { firstIndex, lastIndex, term, position, sizeBytes } = group;
  return { firstIndex, lastIndex, term, position, sizeBytes, membership: decodeMembership(entry.subarray(ENTRY_HEADER_BYTES)) };
}
