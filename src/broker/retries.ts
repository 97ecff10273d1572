import { assert } from '../base/assert.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { ERRORS } from '../protocol/errors.ts';
import { dlqTopicOf, retryTopicOf } from '../protocol/names.ts';
import { MAX_LIST } from '../protocol/schema.ts';
import type { AppliedEntry } from '../replica/types.ts';
import type { Command, DeadLetterMark, RetryTopicMake, SendBack } from './commands.ts';
import type { DeliveryRow } from './delivery.ts';
import type { GroupState, Groups, OffsetListener } from './groups.ts';
import { ownership } from './groups.ts';
import { StateLimits } from './limits.ts';
import type { CommandHandler, CommandResult, PlacedRows, StateTable } from './state-table.ts';
import type { Topics } from './topics.ts';
import { queueKey } from './topics.ts';

/** Where rows wait for their time (Timers). */
export interface RowDeferral {
  /** @param dueMs log time */
  deferRow(row: DeliveryRow, rowPosition: number, dueMs: number, entry: AppliedEntry): void;
  deferRowAtLevel(row: DeliveryRow, rowPosition: number, level: number, entry: AppliedEntry): void;
}

/** What retries need of the rest of the state. */
export interface RetryPorts {
  readonly topics: Topics;
  readonly groups: () => Groups;
  readonly deferral: () => RowDeferral;
  /** @returns the offset that the row got, or −1 */
  placeRow(row: DeliveryRow, rowPosition: number, logTimeMs: number): number;
  groupChanged(group: string): void;
}

interface ReplayMark {
  readonly replays: number;
  readonly lastReplayMs: number;
}

/** [group, [key of a queue, offsets…]…] and [group, [offset, replays, last replay]…] */
type PackedRetries = readonly [
  sentBack: readonly (readonly [string, ...(readonly number[])[]])[],
  marks: readonly (readonly [string, ...(readonly [number, number, number])[]])[],
];

/** Commands that Retries applies. */
export const RETRY_COMMANDS = ['retryTopicMake', 'sendBack', 'deadLetterMark'] as const;

const OK = 0;
const NONE: readonly number[] = [];
const refused = (code: ErrorCode): CommandResult => ({ error: ERRORS[code].number, results: NONE });
const byText = <T>([a]: readonly [string, T], [b]: readonly [string, T]): number => (a < b ? -1 : 1);
const byNumber = <T>([a]: readonly [number, T], [b]: readonly [number, T]): number => a - b;

/**
 * Retries and dead letters in the replicated state (F22, F23).
 *
 * A message that a member could not handle is sent back: from then on its offset counts as done, and a row of the same entry
 * delivers it again, later, in the group's %RETRY% queue, or makes it a dead letter in %DLQ%. Both in one entry, so that it is
 * never lost between them. Which offsets above the committed one were sent back is kept here: a send-back whose answer was lost,
 * or that of a next owner who was given the message again before the offset was committed, makes no second copy.
 */
export class Retries implements StateTable, CommandHandler, OffsetListener {
  readonly name = 'retries';
  readonly #ports: RetryPorts;
  /** By group, then by queue key: offsets at or above the committed one. */
  readonly #sentBack = new Map<string, Map<number, Set<number>>>();
  #sentBackCount = 0;
  /** By group, then by offset in its dead-letter queue. */
  readonly #marks = new Map<string, Map<number, ReplayMark>>();
  #markCount = 0;

  constructor(ports: RetryPorts) {
    this.#ports = ports;
  }

  isSentBack(group: string, key: number, offset: number): boolean {
    return this.#sentBack.get(group)?.get(key)?.has(offset) === true;
  }

  /** Those of dead letters at offsets from `from` to before `to`, by offset: as many as one answer holds. */
  marks(group: string, from: number, to: number): { readonly offset: number; readonly replays: number; readonly lastReplayMs: number }[] {
    const found: { offset: number; replays: number; lastReplayMs: number }[] = [];
    const marks = this.#marks.get(group);
    for (let offset = from; marks !== undefined && offset < Math.min(to, from + MAX_LIST); offset++) {
      const mark = marks.get(offset);
      if (mark !== undefined) found.push({ offset, ...mark });
    }
    return found;
  }

  handle(command: Command, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    switch (command.type) {
      case 'retryTopicMake':
        return this.#make(command, entry.index);
      case 'sendBack':
        return this.#sendBack(command, entry, rows);
      case 'deadLetterMark':
        return this.#note(command, entry.logTimeMs);
      default:
        assert(false, `${command.type} is not a command of retries`);
    }
  }

  /** A group makes two internal topics of one queue at most: their number is bounded by that of groups. */
  #make({ group, dead }: RetryTopicMake, index: number): CommandResult {
    const groups = this.#ports.groups();
    if (groups.named(group) === undefined) return refused('GROUP_NOT_FOUND');
    this.#ports.topics.internal(dead ? dlqTopicOf(group) : retryTopicOf(group), 1);
    // Now, not when the first retry is due: a member that hears of its queue late would make that one late.
    if (!dead && groups.retryTopicMade(group, index)) this.#ports.groupChanged(group);
    return { error: OK, results: NONE };
  }

  #sendBack(command: SendBack, entry: AppliedEntry, placed: PlacedRows): CommandResult {
    const { member, topicId, queueId, epoch, messages } = command;
    const group = this.#ports.groups().named(command.group);
    if (group === undefined) return refused('UNKNOWN_MEMBER');
    // An owner that slept must not send back what the next one is handling.
    const refusal = ownership(group, member, topicId, queueId, epoch);
    if (refusal !== null) return refused(refusal);
    assert(placed.rows.length === messages.length, 'a row for each message');
    const key = queueKey(topicId, queueId);
    const committed = group.offsets.get(key) ?? 0;
    const results = messages.map(([offset, delayLevel, delayMs], i) => {
      if (offset < committed || this.isSentBack(group.name, key, offset)) return OK;
      if (!this.#hasRoom(group.name, key)) return ERRORS.TOO_MANY.number;
      const row = placed.rows[i] as DeliveryRow;
      // Its topic was made before this was proposed, and internal topics of a group stay as long as the group.
      if (this.#ports.topics.queue(row.topicId, row.queueId) === undefined) return ERRORS.QUEUE_NOT_FOUND.number;
      this.#remember(group.name, key, offset);
      this.#deliver(row, placed.rowPosition(i), entry, delayLevel, delayMs);
      return OK;
    });
    return { error: OK, results };
  }

  #deliver(row: DeliveryRow, position: number, entry: AppliedEntry, delayLevel: number, delayMs: number): void {
    if (delayLevel < 0) this.#ports.placeRow(row, position, entry.logTimeMs);
    else if (delayMs > 0) this.#ports.deferral().deferRow(row, position, entry.logTimeMs + delayMs, entry);
    else this.#ports.deferral().deferRowAtLevel(row, position, delayLevel, entry);
  }

  #hasRoom(group: string, key: number): boolean {
    const size = this.#sentBack.get(group)?.get(key)?.size ?? 0;
    return size < StateLimits.maxSentBackPerQueue && this.#sentBackCount < StateLimits.maxSentBack;
  }

  #remember(group: string, key: number, offset: number): void {
    const queues = this.#sentBack.get(group) ?? new Map<number, Set<number>>();
    const offsets = queues.get(key) ?? new Set<number>();
    this.#sentBack.set(group, queues);
    queues.set(key, offsets);
    offsets.add(offset);
    this.#sentBackCount++;
  }

  committed(group: GroupState, key: number, offset: number): void {
    const queues = this.#sentBack.get(group.name);
    const offsets = queues?.get(key);
    if (queues === undefined || offsets === undefined) return;
    for (const each of offsets) if (each < offset && offsets.delete(each)) this.#sentBackCount--;
    if (offsets.size === 0) this.#forgetQueue(group.name, key);
  }

  /** Consumed again from there, a message may fail again and is to be sent back again. */
  reset(group: GroupState, key: number): void {
    this.#forgetQueue(group.name, key);
  }

  #forgetQueue(group: string, key: number): void {
    const queues = this.#sentBack.get(group);
    this.#sentBackCount -= queues?.get(key)?.size ?? 0;
    if (queues?.delete(key) === true && queues.size === 0) this.#sentBack.delete(group);
  }

  topicDropped(topic: { readonly id: number; readonly queues: readonly { readonly queueId: number }[] }): void {
    for (const group of [...this.#sentBack.keys()])
      for (const { queueId } of topic.queues) this.#forgetQueue(group, queueKey(topic.id, queueId));
  }

  #note({ group, offsets }: DeadLetterMark, logTimeMs: number): CommandResult {
    const queue = this.#ports.topics.named(dlqTopicOf(group))?.queues[0];
    if (queue === undefined) return refused('GROUP_NOT_FOUND');
    const marks = this.#marks.get(group) ?? new Map<number, ReplayMark>();
    this.#marks.set(group, marks);
    for (const offset of marks.keys()) if (offset < queue.minOffset && marks.delete(offset)) this.#markCount--;
    const results = offsets.map((offset) => {
      if (offset < queue.minOffset || offset >= queue.nextOffset) return ERRORS.MESSAGE_NOT_FOUND.number;
      const old = marks.get(offset);
      if (old === undefined && this.#markCount >= StateLimits.maxReplayMarks) return ERRORS.TOO_MANY.number;
      if (old === undefined) this.#markCount++;
      marks.set(offset, { replays: (old?.replays ?? 0) + 1, lastReplayMs: logTimeMs });
      return OK;
    });
    if (marks.size === 0) this.#marks.delete(group);
    return { error: OK, results };
  }

  clear(): void {
    this.#sentBack.clear();
    this.#marks.clear();
    this.#sentBackCount = 0;
    this.#markCount = 0;
  }

  pack(): PackedRetries {
    return [
      [...this.#sentBack]
        .sort(byText)
        .map(([group, queues]) => [
          group,
          ...[...queues].sort(byNumber).map(([key, offsets]) => [key, ...[...offsets].sort((a, b) => a - b)]),
        ]),
      [...this.#marks]
        .sort(byText)
        .map(([group, marks]) => [
          group,
          ...[...marks]
            .sort(byNumber)
            .map(([offset, { replays, lastReplayMs }]): [number, number, number] => [offset, replays, lastReplayMs]),
        ]),
    ];
  }

  unpack(packed: unknown): void {
    const [sentBack, marks] = packed as PackedRetries;
    for (const [group, ...queues] of sentBack) {
      for (const [key, ...offsets] of queues) for (const offset of offsets) this.#remember(group, key as number, offset);
    }
    for (const [group, ...noted] of marks) {
      this.#marks.set(group, new Map(noted.map(([offset, replays, lastReplayMs]) => [offset, { replays, lastReplayMs }])));
      this.#markCount += noted.length;
    }
  }
}
