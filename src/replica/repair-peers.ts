import type { Clock, Timer } from '../io/clock.ts';
import { PeerFrameType } from '../protocol/peer-frame.ts';
import type { ReplicaId } from '../raft/types.ts';
import type { PeerLinks } from './peer-links.ts';
import {
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
  type RepairAnswer,
  type RepairKind,
  type RepairQuestion,
  RepairStatus,
} from './repair-frames.ts';

/** A peer that does not answer in this time is asked again, or another one is. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Questions of one peer that are answered at once; further ones are told `busy`. */
const MAX_OPEN_QUESTIONS = 4;

export interface PeerAnswer extends RepairAnswer {
  readonly bytes: Uint8Array;
}

/** What is answered to a peer. `bytes` never change again. */
export interface OwnAnswer {
  readonly status: RepairStatus;
  readonly a?: number;
  readonly b?: number;
  readonly bytes?: Uint8Array;
}

export type AnswerQuestion = (question: Omit<RepairQuestion, 'id'>, from: ReplicaId) => Promise<OwnAnswer>;

export interface RepairPeersOptions {
  readonly links: Pick<PeerLinks, 'sendRepair' | 'repairPeers'>;
  readonly clock: Clock;
  answer: AnswerQuestion;
  failed(error: unknown): void;
}

interface Waiting {
  readonly peer: ReplicaId;
  readonly timer: Timer;
  done(answer: PeerAnswer | null): void;
}

/** Asks other replicas about the bytes of their logs, and answers them. */
export class RepairPeers {
  readonly #options: RepairPeersOptions;
  readonly #waiting = new Map<number, Waiting>();
  readonly #open = new Map<ReplicaId, number>();
  #questions = 0;
  #stopped = false;

  constructor(options: RepairPeersOptions) {
    this.#options = options;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Those that can be asked now. */
  get reachable(): readonly ReplicaId[] {
    return this.#stopped ? [] : this.#options.links.repairPeers();
  }

  /** @returns null when the peer cannot be reached or does not answer in time */
  ask(peer: ReplicaId, kind: RepairKind, a: number, b: number): Promise<PeerAnswer | null> {
    const { links, clock } = this.#options;
    const id = ++this.#questions;
    return new Promise((resolve) => {
      const done = (answer: PeerAnswer | null): void => {
        if (!this.#waiting.delete(id)) return;
        clock.clearTimer(timer);
        resolve(answer);
      };
      const timer = clock.setTimer(ANSWER_TIMEOUT_MS, () => done(null));
      this.#waiting.set(id, { peer, timer, done });
      const sent = !this.#stopped && links.sendRepair(peer, PeerFrameType.repairQuestion, encodeQuestion({ id, kind, a, b }), null);
      if (!sent) done(null);
    });
  }

  /** `head` and `bytes` are valid during the call only. @throws PeerFrameError */
  onFrame(peer: ReplicaId, type: PeerFrameType, head: Uint8Array, bytes: Uint8Array): void {
    if (this.#stopped) return;
    if (type === PeerFrameType.repairQuestion) {
      this.#answer(peer, decodeQuestion(head)).catch((error: unknown) => {
        if (!this.#stopped) this.#options.failed(error);
      });
      return;
    }
    const answer = decodeAnswer(head);
    const waiting = this.#waiting.get(answer.id);
    if (waiting?.peer === peer) waiting.done({ ...answer, bytes: bytes.slice() });
  }

  onLost(peer: ReplicaId): void {
    for (const waiting of [...this.#waiting.values()]) if (waiting.peer === peer) waiting.done(null);
  }

  stop(): void {
    this.#stopped = true;
    for (const waiting of [...this.#waiting.values()]) waiting.done(null);
  }

  async #answer(peer: ReplicaId, { id, kind, a, b }: RepairQuestion): Promise<void> {
    const open = this.#open.get(peer) ?? 0;
    if (open >= MAX_OPEN_QUESTIONS) {
      this.#send(peer, id, { status: RepairStatus.busy });
      return;
    }
    this.#open.set(peer, open + 1);
    try {
      this.#send(peer, id, await this.#options.answer({ kind, a, b }, peer));
    } finally {
      this.#open.set(peer, (this.#open.get(peer) ?? 1) - 1);
    }
  }

  #send(peer: ReplicaId, id: number, { status, a = 0, b = 0, bytes }: OwnAnswer): void {
    const head = encodeAnswer({ id, status, a, b });
    if (!this.#stopped) this.#options.links.sendRepair(peer, PeerFrameType.repairAnswer, head, bytes ?? null);
  }
}
