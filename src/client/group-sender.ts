import type { Timer } from '../io/clock.ts';
import type { Compress } from '../protocol/body-codecs.ts';
import { type ErrorCode, errorCodeOf, LedgerError } from '../protocol/errors.ts';
import { MAX_SEND_PARTS } from '../protocol/flat-bodies.ts';
import { sendHeadroomBytes } from '../protocol/frame.ts';
import { topicNotFound } from '../protocol/names.ts';
import { type EncodedBatch, encodeBatch } from '../protocol/record-batch-encoder.ts';
import { Op, type SendPart, type SendResponse, type SendResult } from '../protocol/requests.ts';
import { backoffMs } from './backoff.ts';
import { BodyCompression } from './body-compression.ts';
import { BufferPool } from './buffer-pool.ts';
import type { LatencyTracker } from './latency-tracker.ts';
import type { ClientIo, Link } from './link.ts';
import type { OutBatch } from './out-batch.ts';
import type { ProducerSettings } from './producer-settings.ts';
import { ROUTE_WAIT_MS, type Router } from './router.ts';
import type { SendQueue } from './send-queue.ts';

/** Small batches of a turn share a frame up to this; a batch above a fraction of it travels alone, without being copied. */
const MAX_SHARED_FRAME_BYTES = 512 * 1024;
const MAX_COPIED_BATCH_BYTES = 32 * 1024;
/** One-way sends are not answered, so nothing else bounds them: above this they wait in the producer's buffer, then BUSY. */
const MAX_ONE_WAY_SOCKET_BYTES = 4 * 1024 * 1024;
const ONE_WAY_RETRY_MS = 10;
/** Waits between attempts at a group without a reachable leader; a new route ends the wait. */
const REDIRECT_BACKOFF = { baseMs: 10, factor: 2, capMs: 500, jitter: true } as const;

/** After the last refusal by a quota its sender stays careful so long. */
const THROTTLED_MS = 1_000;
/** A broker's word on how long to wait counts up to here. */
const MAX_THROTTLE_MS = 60_000;
const THROTTLE_JITTER = 0.1;

interface SendFrame {
  readonly link: Link;
  /** Of the route by which it went there. */
  readonly term: number;
  readonly queues: SendQueue[];
  readonly batches: OutBatch[];
  readonly parts: SendPart[];
  sizeBytes: number;
  /** Memory that the batches were copied into; null when the frame is the batch's own. */
  room: Buffer | null;
  readonly sentAt: number;
}

export interface GroupSenderContext {
  readonly io: ClientIo;
  readonly router: Router;
  readonly settings: ProducerSettings;
  readonly producerId: number;
  readonly idHigh: Uint8Array;
  readonly tracker: LatencyTracker;
  takeIds(count: number): number;
  /** Another broker group's queue of the topic for a batch that this group refused; null when there is none. */
  elsewhere(queue: SendQueue, batch: OutBatch): boolean;
  /** Places a keyed batch of a drained queue by the route of now; false while the route still has the queue. */
  placeAgain(queue: SendQueue, batch: OutBatch): boolean;
  scheduleFlush(): void;
  oneWayDone(batch: OutBatch): void;
}

/** Sends the batches of one broker group's queues to its leader, many in a frame, and decides what an answer means. */
export class GroupSender {
  readonly brokerName: string;
  readonly #context: GroupSenderContext;
  readonly #dirty = new Set<SendQueue>();
  readonly #pool = new BufferPool();
  readonly #allocate = (sizeBytes: number): Buffer => this.#pool.take(sizeBytes);
  readonly #compression: BodyCompression;
  readonly #frames = new Set<SendFrame>();
  #link: Link | null = null;
  #unansweredBytes = 0;
  #throttledUntil = Number.NEGATIVE_INFINITY;
  #failures = 0;
  #blocked: { readonly timer: Timer; readonly byRoute: boolean; readonly staleTerm: number; readonly until: number } | null = null;

  constructor(brokerName: string, context: GroupSenderContext) {
    this.brokerName = brokerName;
    this.#context = context;
    this.#compression = new BodyCompression(context.settings);
  }

  /** The queue has something to send. */
  mark(queue: SendQueue): void {
    this.#dirty.add(queue);
  }

  /** A route or a link changed. */
  routeChanged(): void {
    const link = this.#context.router.leader(this.brokerName);
    if (this.#link !== null && link !== null && link !== this.#link) this.#abandon();
    if (link === null || !link.ready) return;
    const blocked = this.#blocked;
    if (blocked?.byRoute && blocked.staleTerm !== this.#context.router.term(this.brokerName)) this.#unblock();
    if (this.#dirty.size > 0) this.#context.scheduleFlush();
  }

  close(): void {
    this.#unblock();
  }

  /** Sends all that may leave now. @returns how long the earliest lingering batch still waits, ms; infinity = none */
  flush(): number {
    if (this.#dirty.size === 0 || this.#blocked !== null) return Number.POSITIVE_INFINITY;
    const link = this.#context.router.leader(this.brokerName);
    if (link === null || !link.ready) {
      this.#context.router.suspect();
      this.#block(backoffMs(REDIRECT_BACKOFF, this.#failures++, this.#context.io.random), true);
      return Number.POSITIVE_INFINITY;
    }
    this.#link = link;
    return this.#fill(link);
  }

  #fill(link: Link): number {
    const { lingerMs } = this.#context.settings;
    const now = this.#context.io.clock.monotonicMs();
    let lingerLeftMs = Number.POSITIVE_INFINITY;
    let frame = this.#newFrame(link, now);
    for (const queue of this.#dirty) {
      if (!this.#sendOneWay(link, queue)) lingerLeftMs = Math.min(lingerLeftMs, ONE_WAY_RETRY_MS);
      while (queue.hasNext(lingerMs, now)) {
        const batch = queue.next() as OutBatch;
        const alone = batch.sizeBytes > MAX_COPIED_BATCH_BYTES;
        const full = frame.sizeBytes + batch.sizeBytes > MAX_SHARED_FRAME_BYTES || frame.parts.length === MAX_SEND_PARTS;
        if (frame.parts.length > 0 && (alone || full)) {
          this.#send(frame);
          frame = this.#newFrame(link, now);
        }
        // Out of credit: the queue stays marked, the next answer goes on here.
        if (!this.#hasCredit(link, frame.sizeBytes, batch.sizeBytes)) {
          if (frame.parts.length > 0) this.#send(frame);
          return lingerLeftMs;
        }
        this.#encode(link, queue, batch, alone);
        this.#put(frame, queue, batch);
        if (alone) {
          this.#send(frame);
          frame = this.#newFrame(link, now);
        }
      }
      const open = queue.open();
      if (queue.oneWay.length > 0) continue;
      const leftMs = open === undefined ? 0 : open.createdAt + lingerMs - now;
      // What has lingered and is still here waits for a place in the window: the next answer goes on here. A timer for it would be due at once, for ever.
      if (leftMs > 0) lingerLeftMs = Math.min(lingerLeftMs, leftMs);
      else this.#dirty.delete(queue);
    }
    if (frame.parts.length > 0) this.#send(frame);
    return lingerLeftMs;
  }

  #newFrame(link: Link, now: number): SendFrame {
    const term = this.#context.router.term(this.brokerName);
    return { link, term, queues: [], batches: [], parts: [], sizeBytes: 0, room: null, sentAt: now };
  }

  /** One batch larger than the whole window still goes, alone: else it would wait for ever. */
  #hasCredit(link: Link, gatheredBytes: number, sizeBytes: number): boolean {
    const window = link.hello?.sendWindowBytes ?? 0;
    const used = this.#unansweredBytes + gatheredBytes;
    // What is refused was sent for nothing: a whole window of it, again and again, would cost everybody.
    if (this.#throttledUntil > this.#context.io.clock.monotonicMs()) return used === 0;
    return used === 0 || used + sizeBytes <= window;
  }

  #encode(link: Link, queue: SendQueue, batch: OutBatch, alone: boolean): void {
    if (batch.encoded !== null) return;
    const { producerId, idHigh } = this.#context;
    if (batch.idLow === -1) batch.idLow = this.#context.takeIds(batch.count);
    const { idLow, deferral } = batch;
    const header = { producerId, producerEpoch: batch.epoch, firstSequence: batch.firstSequence, idHigh, idLow, deferral };
    const headroomBytes = alone ? sendHeadroomBytes(1, queue.queue.topic.length) : 0;
    const compress = this.#compressionOf(link, queue, batch);
    batch.encoded = encodeBatch(batch.messages, header, headroomBytes, 0, batch.count, this.#allocate, compress);
  }

  #compressionOf(link: Link, queue: SendQueue, batch: OutBatch): Compress | null {
    return this.#compression.of(queue.queue.topic, batch.largestBodyBytes, link.hello?.maxCodec ?? 0);
  }

  #put(frame: SendFrame, queue: SendQueue, batch: OutBatch): void {
    const { bytes } = batch.encoded as EncodedBatch;
    batch.attempt = frame;
    batch.left();
    batch.sends += 1;
    frame.queues.push(queue);
    frame.batches.push(batch);
    frame.parts.push({ topic: queue.queue.topic, queueId: queue.queue.queueId, sizeBytes: bytes.length });
    frame.sizeBytes += bytes.length;
  }

  #send(frame: SendFrame): void {
    const { settings } = this.#context;
    this.#frames.add(frame);
    this.#unansweredBytes += frame.sizeBytes;
    const { raw, headroomBytes } = gather(frame, this.#allocate);
    frame.link.request(
      Op.send,
      { oneWay: false, replication: settings.replication, parts: frame.parts },
      settings.sendTimeoutMs,
      (error, body) => this.#answered(frame, error, body),
      raw,
      headroomBytes,
    );
  }

  /** @returns false when some stay because the socket is full */
  #sendOneWay(link: Link, queue: SendQueue): boolean {
    while (queue.oneWay.length > 0) {
      if (link.bufferedBytes > MAX_ONE_WAY_SOCKET_BYTES) return false;
      const batch = queue.oneWay.shift() as OutBatch;
      const idLow = this.#context.takeIds(batch.count);
      const headroom = sendHeadroomBytes(1, queue.queue.topic.length);
      const { deferral } = batch;
      const header = { producerId: 0, producerEpoch: 0, firstSequence: 0, idHigh: this.#context.idHigh, idLow, deferral };
      const compress = this.#compressionOf(link, queue, batch);
      const { buffer, bytes } = encodeBatch(batch.messages, header, headroom, 0, batch.count, undefined, compress);
      const parts = [{ topic: queue.queue.topic, queueId: queue.queue.queueId, sizeBytes: bytes.length }];
      link.post(Op.send, { oneWay: true, replication: this.#context.settings.replication, parts }, buffer, headroom);
      batch.left();
      this.#context.oneWayDone(batch);
    }
    return true;
  }

  #answered(frame: SendFrame, error: LedgerError | null, body: SendResponse | null): void {
    if (!this.#frames.delete(frame)) return;
    this.#unansweredBytes -= frame.sizeBytes;
    // Who answers has read the whole frame, so no socket holds it any more.
    if (body !== null && frame.room !== null) this.#pool.give(frame.room);
    const { io, tracker } = this.#context;
    let stored = 0;
    for (let i = 0; i < frame.batches.length; i++) {
      const batch = frame.batches[i] as OutBatch;
      const queue = frame.queues[i] as SendQueue;
      this.#dirty.add(queue);
      // A newer attempt is under way, or the batch is settled.
      if (batch.attempt !== frame) continue;
      const result = body?.results[i];
      if (result !== undefined && result.error === 0) {
        stored += 1;
        this.#recycle(batch);
        queue.stored(batch, result.baseOffset);
      } else if (error !== null) this.#failed(queue, batch, error, frame.term);
      else this.#failed(queue, batch, refusalOf(queue, batch, result), frame.term);
    }
    if (stored > 0) {
      this.#failures = 0;
      tracker.answered(this.brokerName, io.clock.monotonicMs() - frame.sentAt);
    }
    this.#context.scheduleFlush();
  }

  /** A batch that was sent twice may still lie in the socket of the first attempt: its memory is left to the collector. */
  #recycle(batch: OutBatch): void {
    if (batch.sends === 1 && batch.encoded !== null) this.#pool.give(batch.encoded.room);
    batch.encoded = null;
  }

  #failed(queue: SendQueue, batch: OutBatch, error: LedgerError, term: number): void {
    const { router, settings, tracker, io } = this.#context;
    switch (DECISIONS[error.code] ?? 'reject') {
      case 'stored':
        queue.stored(batch, -1);
        return;
      case 'sequence':
        queue.sequenceRefused(batch, error);
        return;
      case 'resend':
      case 'resendInDoubt': {
        queue.unanswered(batch, error, DECISIONS[error.code] === 'resendInDoubt');
        tracker.failed(this.brokerName);
        if (error.retry !== 'elsewhere') router.suspect();
        else if (batch.movable && !batch.inDoubt && this.#context.elsewhere(queue, batch)) return;
        if (this.#blocked !== null) return;
        if (error.code === 'NOT_LEADER') this.#awaitRoute(term);
        else this.#block(backoffMs(REDIRECT_BACKOFF, this.#failures++, io.random), error.retry !== 'elsewhere');
        return;
      }
      case 'throttled':
        queue.unanswered(batch, error, false);
        this.#throttle(error.retryAfterMs);
        return;
      case 'closed':
        // Keys are hashed over the queues that are left: until the route says so, the message waits.
        queue.unanswered(batch, error, false);
        router.suspect();
        if (this.#movedAway(queue, batch)) return;
        if (!batch.movable && !batch.keyed) refuse(queue, batch, error);
        else this.#block(backoffMs(REDIRECT_BACKOFF, this.#failures++, io.random), true);
        return;
      case 'unplaced':
        queue.unanswered(batch, error, false);
        this.#block(backoffMs(REDIRECT_BACKOFF, this.#failures++, io.random), false);
        void this.#unplaced(queue, batch, error);
        return;
      case 'count':
        queue.unanswered(batch, error, false);
        tracker.failed(this.brokerName);
        batch.refusals += 1;
        if (batch.refusals > settings.retryTimesWhenSendFailed) {
          const detail = `${batch.refusals} attempts`;
          queue.drop(batch, new LedgerError(batch.inDoubt ? 'OUTCOME_UNKNOWN' : 'RETRIES_EXHAUSTED', detail, [...batch.causes]));
          return;
        }
        if (error.retry === 'redirect') router.suspect();
        if (batch.movable && !batch.inDoubt && this.#context.elsewhere(queue, batch)) return;
        this.#block(backoffMs(settings.retryBackoff, batch.refusals - 1, io.random), false);
        return;
      case 'reject':
        queue.unanswered(batch, error, false);
        refuse(queue, batch, error);
    }
  }

  /**
   * This group does not know the topic or the queue: it hears of it in a moment, or was taken out of it, or nobody has the topic any
   * more. Only the last is an end; else the batch goes where the route of now says, or again, until its deadline.
   */
  async #unplaced(queue: SendQueue, batch: OutBatch, error: LedgerError): Promise<void> {
    const { router } = this.#context;
    const gone = await router.isGone(queue.queue.topic);
    if (batch.attempt !== null || !queue.pending.includes(batch)) return;
    const { topic, queueId } = queue.queue;
    const stays = router.topic(topic)?.queues.some((each) => each.brokerName === this.brokerName && each.queueId === queueId) ?? true;
    if (gone || (!stays && !batch.movable && !batch.keyed)) refuse(queue, batch, error);
    else this.#movedAway(queue, batch);
  }

  /** @returns false when it stays, because it may be stored here, or is meant for this queue, or no other one is known */
  #movedAway(queue: SendQueue, batch: OutBatch): boolean {
    if (batch.inDoubt) return false;
    if (batch.movable) return this.#context.elsewhere(queue, batch);
    return batch.keyed && this.#context.placeAgain(queue, batch);
  }

  /** Another replica leads: what the old one has not answered may be stored or not, and goes to the new one at once. */
  #abandon(): void {
    const error = new LedgerError('NOT_LEADER', 'another replica leads now');
    for (const frame of [...this.#frames]) {
      if (frame.link !== this.#link) continue;
      this.#frames.delete(frame);
      this.#unansweredBytes -= frame.sizeBytes;
      frame.batches.forEach((batch, i) => {
        if (batch.attempt !== frame) return;
        const queue = frame.queues[i] as SendQueue;
        queue.unanswered(batch, error, true);
        this.#dirty.add(queue);
      });
    }
    this.#link = null;
  }

  /** The quota of this client or of a namespace is used up. Until it has not been for a while, one batch at a time asks for more. */
  #throttle(retryAfterMs: number): void {
    const { clock, random } = this.#context.io;
    const waitMs = Math.min(Math.max(1, retryAfterMs), MAX_THROTTLE_MS);
    this.#throttledUntil = clock.monotonicMs() + waitMs + THROTTLED_MS;
    // Clients that share a quota must not all come back at once.
    this.#block(waitMs * (1 + THROTTLE_JITTER * random.unit()), false);
  }

  /** The same replica would say the same again before the route question is answered. */
  #awaitRoute(staleTerm: number): void {
    const { router, io } = this.#context;
    if (router.term(this.brokerName) !== staleTerm) return;
    this.#block(ROUTE_WAIT_MS + backoffMs(REDIRECT_BACKOFF, this.#failures++, io.random), true, staleTerm);
  }

  /** @param staleTerm a route of this term does not end the wait; -1: any does */
  #block(delayMs: number, byRoute: boolean, staleTerm = -1): void {
    const { clock } = this.#context.io;
    const until = clock.monotonicMs() + delayMs;
    if (this.#blocked !== null && this.#blocked.until >= until) return;
    this.#unblock();
    const timer = clock.setTimer(delayMs, () => {
      this.#blocked = null;
      this.#context.scheduleFlush();
    });
    this.#blocked = { timer, byRoute, staleTerm, until };
  }

  #unblock(): void {
    if (this.#blocked !== null) this.#context.io.clock.clearTimer(this.#blocked.timer);
    this.#blocked = null;
  }
}

/** Ends it with the refusal, which says nothing of earlier attempts. */
function refuse(queue: SendQueue, batch: OutBatch, error: LedgerError): void {
  queue.drop(batch, batch.inDoubt ? new LedgerError('OUTCOME_UNKNOWN', error.message, [...batch.causes]) : error);
}

/** A send's answer is numbers alone: what they are about is known here. */
function refusalOf({ queue }: SendQueue, batch: OutBatch, result: SendResult | undefined): LedgerError {
  const code: ErrorCode = result === undefined ? 'INTERNAL' : errorCodeOf(result.error);
  if (code === 'QUOTA_EXCEEDED') return new LedgerError(code, undefined, [], result?.logTimeMs);
  if (code === 'TOPIC_NOT_FOUND') return topicNotFound(queue.topic);
  if (code !== 'MESSAGE_TOO_LARGE') return new LedgerError(code);
  const place = `${queue.topic}/${queue.brokerName}/${queue.queueId}`;
  return new LedgerError(code, `${place}: a batch of ${batch.count} messages, ${batch.sizeBytes} bytes, is above the limits of the broker`);
}

type Decision = 'throttled' | 'stored' | 'sequence' | 'resend' | 'resendInDoubt' | 'count' | 'closed' | 'unplaced' | 'reject';

/** What an error means for a send; codes that are missing here are refusals for good. */
const DECISIONS: { readonly [C in ErrorCode]?: Decision } = {
  DUPLICATE_FORGOTTEN: 'stored',
  OUT_OF_SEQUENCE: 'sequence',
  UNKNOWN_PRODUCER: 'sequence',
  FENCED: 'sequence',
  NOT_LEADER: 'resend',
  NOT_READY: 'resend',
  NO_ROUTE: 'resend',
  BUSY: 'resend',
  STORE_POISONED: 'resendInDoubt',
  CONNECTION_LOST: 'resendInDoubt',
  // Our own link to an address that no route names any more; a closed producer has nothing left to send.
  CLOSED: 'resendInDoubt',
  DEADLINE_EXCEEDED: 'resendInDoubt',
  OUTCOME_UNKNOWN: 'resendInDoubt',
  INTERNAL: 'resendInDoubt',
  DISK_FULL: 'count',
  QUEUES_CLOSED: 'closed',
  TOPIC_NOT_FOUND: 'unplaced',
  QUEUE_NOT_FOUND: 'unplaced',
  TOO_MANY: 'count',
  QUOTA_EXCEEDED: 'throttled',
};

/** The raw region of a frame. A batch laid down with room in front is used as it is, once; all else is copied. */
function gather(frame: SendFrame, allocate: (sizeBytes: number) => Buffer): { raw: Uint8Array; headroomBytes: number } {
  const { parts, batches } = frame;
  const first = (batches[0] as OutBatch).encoded as EncodedBatch;
  if (batches.length === 1 && first.headroomBytes > 0 && !(batches[0] as OutBatch).bufferUsed) {
    (batches[0] as OutBatch).bufferUsed = true;
    return { raw: first.buffer, headroomBytes: first.headroomBytes };
  }
  let headroomBytes = 0;
  for (const part of parts) headroomBytes += sendHeadroomBytes(1, part.topic.length);
  const room = allocate(headroomBytes + frame.sizeBytes);
  frame.room = room;
  let at = headroomBytes;
  for (const batch of batches) {
    const { bytes } = batch.encoded as EncodedBatch;
    room.set(bytes, at);
    at += bytes.length;
  }
  return { raw: room.subarray(0, at), headroomBytes };
}
