import { assert } from '../base/assert.ts';
import { crc32 } from '../base/crc.ts';
import { ENTRY_HEADER_BYTES } from '../log/layout.ts';
import { batchKeyHashes } from '../protocol/batch-keys.ts';
import { ERRORS, type ErrorCode } from '../protocol/errors.ts';
import {
  BatchFlag,
  batchCount,
  batchFirstSequence,
  batchFlags,
  batchHasSequence,
  batchIdHigh,
  batchIdLow,
  batchProducerEpoch,
  batchProducerId,
  DEFERRED_FLAGS,
  tagBloom,
} from '../protocol/record-batch.ts';
import type { AppliedEntry, ReplicaRole, StateMachine } from '../replica/types.ts';
import { EntryType } from '../replica/types.ts';
import type { TopicRecord } from '../routing/records.ts';
import { Carried } from './carried.ts';
import { type Command, decodeCommand } from './commands.ts';
import { Delivery, type DeliveryRow, ROW_BYTES } from './delivery.ts';
import { Digest, DigestCheckpoint } from './digest.ts';
import { FIRST_FEATURE_LEVEL, NEWEST_FEATURE_LEVEL } from './feature-level.ts';
import { Groups } from './groups.ts';
import { HeldSegments } from './held-segments.ts';
import { KeptMessages } from './kept-messages.ts';
import { LogCuts } from './log-cuts.ts';
import { LongerRetentions } from './longer-retentions.ts';
import { PastTopics } from './past-topics.ts';
import { PopTable } from './pop/pop-table.ts';
import type { ApplyListener, MessageIdIndex, QueueStore } from './ports.ts';
import { Producers } from './producers.ts';
import { Quotas } from './quotas.ts';
import { RETRY_COMMANDS, Retries } from './retries.ts';
import { Segments } from './segments.ts';
import { isSetting, SETTINGS, type SettingName } from './settings.ts';
import { packState, unpackState } from './snapshot.ts';
import type { CommandHandler, DeferredBatches, PlacedRows, StateTable } from './state-table.ts';
import { DELAY_FLAGS, Timers } from './timers.ts';
import { recordFault, recordOfPut } from './topic-records.ts';
import type { QueueState, TopicState } from './topics.ts';
import { queueKey, recordOf, Topics } from './topics.ts';
import { TRANSACTION_COMMANDS, Transactions } from './transactions.ts';

const NO_RESULT: readonly number[] = [];
const NO_ROWS: PlacedRows = { rows: [], rowPosition: () => 0 };
const NO_OFFSET = -1;
/** What a sender is told instead of an offset: of a half message the number of its transaction. */
const deferredOffset = (flag: number, { position }: AppliedEntry): number => (flag === BatchFlag.half ? position : NO_OFFSET);
const numberOf = (code: ErrorCode | null): number => (code === null ? 0 : ERRORS[code].number);

type GroupCommand = Extract<
  Command,
  { type: 'groupJoin' | 'groupJoinBy' | 'groupLeave' | 'groupExpire' | 'groupRevokeTimeout' | 'groupResetOffset' }
>;

export interface StateMachineOptions {
  readonly brokerName: string;
  readonly queues: QueueStore;
  readonly ids: MessageIdIndex;
  /** What this replica can apply; default: what this release can. */
  readonly newestFeatureLevel?: number;
}

/**
 * The replicated state of a broker group (I6, I7): topics, queue offsets, producer sequences, consumer groups and offsets,
 * the log's start. It reads nothing but entries and itself.
 *
 * ConsumeQueues and the index are written from here but decide nothing. A batch costs its header, its sequence, one
 * ConsumeQueue unit and one index entry, however many messages it holds (I10; tags and keys each walk its units once), and an
 * index entry for each key.
 */
export class BrokerStateMachine implements StateMachine {
  readonly topics: Topics;
  readonly pastTopics = new PastTopics();
  readonly producers = new Producers();
  readonly groups: Groups;
  readonly segments: Segments;
  readonly retries: Retries;
  readonly pop: PopTable;
  readonly quotas = new Quotas();
  readonly retentions = new LongerRetentions();
  readonly #settings = new Map<string, number>();
  readonly #queues: QueueStore;
  readonly #ids: MessageIdIndex;
  readonly #digest = new Digest();
  readonly #checkpoint = new DigestCheckpoint();
  /** What the features keep besides, and who applies their commands. */
  readonly #added: StateTable[] = [];
  readonly #handlers = new Map<Command['type'], CommandHandler>();
  /** Who takes over batches that are not placed when they are stored, by BatchFlag. */
  readonly #deferred = new Map<number, DeferredBatches>();
  readonly timers: Timers;
  readonly transactions: Transactions;
  readonly held: HeldSegments;
  readonly carried: Carried;
  readonly kept: KeptMessages;
  readonly #cuts: LogCuts;
  /** Of the batch at hand: one list for all. */
  readonly #keyHashes: number[] = [];
  #listener: ApplyListener | null = null;
  #onRole: ((role: ReplicaRole) => void) | null = null;
  readonly newestFeatureLevel: number;
  #featureLevel = FIRST_FEATURE_LEVEL;
  #membership: { readonly index: number; readonly body: Uint8Array } | null = null;
  #appliedIndex = 0;
  /** Batches that apply found to be stored already, since this process started. Not part of the state. */
  duplicateBatches = 0;
  /** Log time and end of the last entry applied. */
  #logTimeMs = 0;
  #endPosition = 0;

  constructor(options: StateMachineOptions) {
    this.#queues = options.queues;
    this.#ids = options.ids;
    this.newestFeatureLevel = options.newestFeatureLevel ?? NEWEST_FEATURE_LEVEL;
    this.topics = new Topics(options.queues, options.brokerName, (record) => this.pastTopics.has(record));
    this.#added.push(this.pastTopics);
    this.retries = new Retries({
      topics: this.topics,
      groups: () => this.groups,
      deferral: () => this.timers,
      placeRow: (row, position, logTimeMs) => this.placeRow(row, position, logTimeMs),
      groupChanged: (group) => this.#listener?.onGroupChanged(group),
    });
    this.groups = new Groups(this.topics, options.brokerName, this.retries);
    this.segments = new Segments(this.topics);
    const { segments } = this;
    this.carried = new Carried({ segments, featureLevel: () => this.#featureLevel, appliedIndex: () => this.#appliedIndex });
    this.#add(this.carried, ['carry'], this.carried);
    this.held = new HeldSegments(this.carried);
    this.#added.push(this.held);
    this.kept = new KeptMessages({
      topics: this.topics,
      retentions: this.retentions,
      segments,
      indexRow: (row, position, logTimeMs) => this.#ids.putRow(row.position, position, logTimeMs),
    });
    this.#add(this.kept, ['keep'], this.kept);
    this.#add(this.retentions, ['retentionSet', 'retentionRemove'], this.retentions);
    this.timers = new Timers({
      topics: this.topics,
      carried: this.carried,
      indexRow: (row, position, logTimeMs) => this.#ids.putRow(row.position, position, logTimeMs),
      placeRow: (row, position, logTimeMs) => this.placeRow(row, position, logTimeMs),
    });
    this.#addTimers(this.timers);
    this.pop = new PopTable({
      topics: this.topics,
      hasMembers: (group) => (this.groups.named(group)?.members.size ?? 0) > 0,
      committedOffset: (group, topicId, queueId) => this.groups.named(group)?.offsets.get(queueKey(topicId, queueId)),
      setOffset: (group, topicId, queueId, offset) => this.groups.setOffset(group, topicId, queueId, offset),
      placeRow: (row, position, logTimeMs) => this.placeRow(row, position, logTimeMs),
    });
    this.#add(this.pop, PopTable.COMMANDS, this.pop);
    this.#add(this.retries, RETRY_COMMANDS, this.retries);
    this.#add(this.quotas, ['quotaSet', 'quotaRemove'], this.quotas);
    this.transactions = new Transactions({
      topics: this.topics,
      setting: (name) => this.setting(name),
      placeRow: (row, position, logTimeMs) => this.placeRow(row, position, logTimeMs),
    });
    this.#deferred.set(BatchFlag.half, this.transactions);
    this.#add(this.transactions, TRANSACTION_COMMANDS, this.transactions);
    const { carried, held, kept, timers, transactions } = this;
    const pending = [timers.references, transactions.halves];
    this.#cuts = new LogCuts({ segments, carried, held, kept, ids: this.#ids, pending, waitIn: (topic) => timers.waitIn(topic) });
    for (const type of ['cut', 'cutCarried'] as const) this.#handlers.set(type, this.#cuts);
  }

  #addTimers(timers: Timers): void {
    this.#added.push(timers);
    for (const flag of [BatchFlag.delayLevel, BatchFlag.deliverAt, BatchFlag.delayMs]) this.#deferred.set(flag, timers);
    for (const type of ['delayLevelsSet', 'delayLevelDue', 'timersDue', 'delayCancel', 'delayLevelCarry', 'timersCarry'] as const)
      this.#handlers.set(type, timers);
  }

  /** A table of the state, and whoever applies its feature's commands. */
  #add(table: StateTable, commands: readonly Command['type'][], handler: CommandHandler): void {
    this.#added.push(table);
    for (const command of commands) this.#handlers.set(command, handler);
  }

  /** The services of this replica; at most one, for good. */
  listen(listener: ApplyListener, onRole: (role: ReplicaRole) => void): void {
    assert(this.#listener === null, 'one listener');
    this.#listener = listener;
    this.#onRole = onRole;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get logTimeMs(): number {
    return this.#logTimeMs;
  }

  get featureLevel(): number {
    return this.#featureLevel;
  }

  /** One past the last byte applied. */
  get endPosition(): number {
    return this.#endPosition;
  }

  setting(name: SettingName): number {
    return this.#settings.get(name) ?? SETTINGS[name].initial;
  }

  startPosition(): number {
    return this.segments.startPosition;
  }

  digest(): number {
    return this.#digest.value;
  }

  /** For comparing replicas from outside; null: not known yet. Not part of the state. */
  get digestCheckpoint(): DigestCheckpoint['last'] {
    return this.#checkpoint.last;
  }

  onSegmentStart(basePosition: number): void {
    // Not in the digest: the snapshot at a segment's head holds the note already, a replica that came to the same index by replay
    // does not yet, and both are the same state. A cut that finds another note differs in its result, which is in the digest.
    this.segments.note(basePosition, this.#logTimeMs);
  }

  apply(entry: AppliedEntry): void {
    assert(this.#appliedIndex === 0 || entry.index === this.#appliedIndex + 1, `entry ${entry.index} after ${this.#appliedIndex}`);
    assert(entry.logTimeMs >= this.#logTimeMs, 'log time never goes back');
    this.#checkpoint.entering(entry.index - 1, this.#digest.value, this.#logTimeMs, entry.logTimeMs);
    this.#appliedIndex = entry.index;
    this.#logTimeMs = entry.logTimeMs;
    this.#endPosition = entry.position + ENTRY_HEADER_BYTES + entry.body.length;
    this.#digest.mix(entry.index);
    // What expires by it may differ only a day later: two replicas that saw different times are found at once.
    this.#digest.mix(entry.logTimeMs);
    this.producers.expire(entry.logTimeMs);
    switch (entry.type) {
      case EntryType.batch:
        this.#applyBatch(entry);
        return;
      case EntryType.command:
        this.#applyCommand(decodeCommand(entry.body, this.newestFeatureLevel), entry, NO_ROWS);
        return;
      case EntryType.delivery: {
        const delivery = new Delivery(entry.body, entry.position);
        this.#applyCommand(decodeCommand(delivery.command, this.newestFeatureLevel), entry, delivery);
        return;
      }
      case EntryType.carried:
        // Nothing refers to it before a `carry` says so.
        this.indexBatch(entry);
        this.#listener?.onCarried(entry.index, entry.position);
        return;
      case EntryType.noop:
        this.#listener?.onNoop(entry.index, entry.term);
        return;
      case EntryType.membership:
        // Nothing of the broker's depends on it; it is kept because a state stands for a log that begins behind it.
        this.#membership = { index: entry.index, body: Uint8Array.from(entry.body) };
        return;
      default:
        assert(false, `entry type ${String(entry.type)} is not known to this release`);
    }
  }

  #applyBatch(entry: AppliedEntry): void {
    const { body, topicId, queueId } = entry;
    const queue = this.topics.queue(topicId, queueId);
    if (queue === undefined) {
      const code = this.topics.withId(topicId) === undefined ? 'TOPIC_NOT_FOUND' : 'QUEUE_NOT_FOUND';
      this.#batchDone(entry, ERRORS[code].number, -1, 0, entry.logTimeMs);
      return;
    }
    const count = batchCount(body, 0);
    const flag = batchFlags(body, 0) & DEFERRED_FLAGS;
    const deferral = (flag & DELAY_FLAGS) !== 0 && this.timers.isDue(flag, entry) ? 0 : flag;
    if (batchHasSequence(body, 0)) {
      const producerId = batchProducerId(body, 0);
      const epoch = batchProducerEpoch(body, 0);
      const sequence = batchFirstSequence(body, 0);
      const verdict = this.producers.check(queue, producerId, epoch, sequence, count);
      if (verdict.error !== null || verdict.duplicate) {
        if (verdict.duplicate) this.duplicateBatches++;
        this.#batchDone(
          entry,
          numberOf(verdict.error),
          verdict.baseOffset,
          queue.nextOffset,
          verdict.duplicate ? verdict.logTimeMs : entry.logTimeMs,
        );
        return;
      }
      if (deferral !== 0 && !this.#defer(deferral, entry, queue, count)) return;
      const baseOffset = deferral === 0 ? queue.nextOffset : deferredOffset(deferral, entry);
      this.producers.accept(queue, producerId, epoch, sequence, count, baseOffset, entry.logTimeMs);
    } else if (deferral !== 0 && !this.#defer(deferral, entry, queue, count)) return;
    if (deferral === 0) this.#place(entry, queue, count);
    else this.#batchDone(entry, 0, deferredOffset(deferral, entry), queue.nextOffset, entry.logTimeMs);
  }

  /** @returns whether it was taken; if not, the sequence must not move, so that the producer may send it again */
  #defer(flag: number, entry: AppliedEntry, queue: QueueState, count: number): boolean {
    const taker = this.#deferred.get(flag);
    assert(taker !== undefined, `batches of flag ${flag} are known to this release`);
    const error = taker.defer(flag, entry, queue, count);
    if (error !== 0) this.#batchDone(entry, error, NO_OFFSET, queue.nextOffset, entry.logTimeMs);
    else this.indexBatch(entry);
    return error === 0;
  }

  /**
   * Gives what a row stands for its place in its queue.
   * @param position of the row
   * @returns the offset, or −1: the queue is not here any more
   */
  placeRow(row: DeliveryRow, position: number, logTimeMs: number): number {
    const queue = this.topics.queue(row.topicId, row.queueId);
    if (queue === undefined) return NO_OFFSET;
    const baseOffset = queue.nextOffset;
    queue.nextOffset += row.count;
    queue.index.append(baseOffset, position, logTimeMs, ROW_BYTES, row.count, row.tagBloom);
    this.held.hold(position, row.position);
    this.carried.refer(row.position, row.sizeBytes);
    this.#ids.putRow(row.position, position, logTimeMs);
    this.#digest.mix(baseOffset + 1);
    this.#listener?.onPlaced(row.topicId, row.queueId);
    return baseOffset;
  }

  /** Gives the batch its place in its queue. */
  #place(entry: AppliedEntry, queue: QueueState, count: number): void {
    const { body, position, logTimeMs } = entry;
    const baseOffset = queue.nextOffset;
    queue.nextOffset += count;
    queue.index.append(baseOffset, position, logTimeMs, ENTRY_HEADER_BYTES + body.length, count, tagBloom(body, 0));
    this.indexBatch(entry);
    this.#batchDone(entry, 0, baseOffset, queue.nextOffset, logTimeMs);
  }

  /** What the batch's messages can be searched by (F30): once where it is stored, and again where its bytes are carried to. */
  indexBatch({ body, topicId, position, logTimeMs }: Pick<AppliedEntry, 'body' | 'topicId' | 'position' | 'logTimeMs'>): void {
    this.#ids.putIds(batchIdHigh(body, 0), batchIdLow(body, 0), batchCount(body, 0), position, logTimeMs);
    batchKeyHashes(body, 0, this.#keyHashes);
    if (this.#keyHashes.length > 0) this.#ids.putKeys(topicId, this.#keyHashes, position, logTimeMs);
  }

  #batchDone(entry: AppliedEntry, error: number, baseOffset: number, nextOffset: number, logTimeMs: number): void {
    this.#digest.mix(error * 65_536 + entry.queueId);
    this.#digest.mix(baseOffset + 1);
    this.#listener?.onBatch(entry.index, entry.topicId, entry.queueId, error, baseOffset, nextOffset, logTimeMs);
  }

  #applyCommand(command: Command, entry: AppliedEntry, rows: PlacedRows): void {
    const { index } = entry;
    const handler = this.#handlers.get(command.type);
    this.#digest.mix(crc32(entry.body));
    if (handler !== undefined) {
      const { error, results } = handler.handle(command, entry, rows);
      this.#commandDone(index, error, results);
      return;
    }
    switch (command.type) {
      case 'topicCreate':
      case 'topicUpdate':
      case 'topicDelete':
        this.#applyTopic(command, index);
        break;
      case 'topicPut':
        this.#applyPut(recordOfPut(command), index, false);
        break;
      case 'topicChange':
        this.#applyPut(recordOfPut(command), index, true);
        break;
      case 'topicForget': {
        const forgotten = this.topics.forget(command.name, command.incarnation, command.version);
        if (forgotten !== null && this.#featureLevel >= this.pastTopics.level) this.pastTopics.remember(forgotten);
        this.#commandDone(index, 0, [Number(forgotten !== null)]);
        break;
      }
      case 'offsetCommit':
        this.#commandDone(
          index,
          0,
          command.commits.flatMap((commit) => this.groups.commit(commit)),
        );
        break;
      case 'groupRelease': {
        const results = this.groups.release(command.group, command.member, command.queues, index);
        this.#commandDone(index, 0, results);
        if (results.includes(0)) this.#listener?.onGroupChanged(command.group);
        break;
      }
      case 'setSetting':
        this.#applySetting(command.name, command.value, index);
        break;
      case 'featureLevelRaise':
        // Never back: what was written since needs it. A second proposal of the same raise finds nothing to do.
        this.#featureLevel = Math.max(this.#featureLevel, command.level);
        this.#commandDone(index, 0, NO_RESULT);
        break;
      case 'groupJoin':
      case 'groupJoinBy':
      case 'groupLeave':
      case 'groupExpire':
      case 'groupRevokeTimeout':
      case 'groupResetOffset':
        this.#applyGroup(command, index);
        break;
      default:
        assert(false, `${command.type} has no handler`);
    }
  }

  #applyGroup(command: GroupCommand, index: number): void {
    let error: ErrorCode | null = null;
    let changed = true;
    let results = NO_RESULT;
    switch (command.type) {
      case 'groupJoin':
      case 'groupJoinBy':
        error = this.pop.isPopping(command.group) ? 'GROUP_MODE_CONFLICT' : this.groups.join(command, index);
        break;
      case 'groupLeave':
        changed = this.groups.remove(command.group, command.member, 0, index);
        break;
      case 'groupExpire':
        changed = this.groups.remove(command.group, command.member, command.joinIndex, index);
        break;
      case 'groupRevokeTimeout':
        changed = this.groups.revokeTimedOut(command.group, command.topicId, command.queueId, command.epoch, index);
        break;
      case 'groupResetOffset':
        results = [this.groups.named(command.group)?.offsets.get(queueKey(command.topicId, command.queueId)) ?? -1];
        error = this.groups.resetOffset(command.group, command.topicId, command.queueId, command.offset, index);
        if (error === null) this.pop.reset(command.group, command.topicId, command.queueId, command.offset);
    }
    this.#commandDone(index, numberOf(error), results);
    if (error === null && changed) this.#listener?.onGroupChanged(command.group);
  }

  #applyTopic(command: Extract<Command, { type: 'topicCreate' | 'topicUpdate' | 'topicDelete' }>, index: number): void {
    const before = this.topics.named(command.name);
    let error: ErrorCode | null = null;
    // Retries, dead letters and what waits for its time are the group's own.
    if (before?.internal === true) error = 'BAD_NAME';
    else if (command.type === 'topicCreate') error = this.topics.create(command, index);
    else if (command.type === 'topicUpdate') error = this.topics.update(command, index);
    else if (before === undefined) error = 'TOPIC_NOT_FOUND';
    else this.#dropTopic(before, { ...recordOf(before), version: before.version + 1, deleted: true });
    this.#commandDone(index, numberOf(error), NO_RESULT);
    if (error !== null) return;
    const after = this.topics.named(command.name);
    if (after !== undefined) this.#topicChanged(recordOf(after), after.id, index);
    else if (before !== undefined)
      this.#topicChanged({ ...recordOf(before), version: before.version + 1, deleted: true }, before.id, index);
  }

  #applyPut(record: TopicRecord, index: number, isKnown: boolean): void {
    const fault = recordFault(record);
    const verdict = fault ?? this.topics.verdict(record, isKnown);
    const before = this.topics.named(record.name);
    if (verdict === 'make' || verdict === 'change') this.topics.put(record);
    else if (verdict === 'drop') {
      if (before !== undefined) this.#dropTopic(before, record);
      else this.topics.bury(record);
    } else {
      this.#commandDone(index, verdict === 'done' ? 0 : numberOf(verdict), NO_RESULT);
      return;
    }
    this.#commandDone(index, 0, NO_RESULT);
    this.#topicChanged(record, before?.id ?? this.topics.named(record.name)?.id ?? 0, index);
  }

  #dropTopic(topic: TopicState, record: TopicRecord): void {
    this.producers.dropTopic(topic);
    this.groups.dropTopic(topic.id);
    for (const table of this.#added) table.topicDropped?.(topic);
    this.topics.delete(topic);
    this.topics.bury(record);
  }

  #topicChanged(record: TopicRecord, topicId: number, index: number): void {
    const groups = this.groups.topicChanged(record.name, index);
    this.#listener?.onTopicChanged(record, topicId, index);
    for (const group of groups) this.#listener?.onGroupChanged(group);
  }

  mayCut(position: number): boolean {
    return this.#cuts.mayCut(position);
  }

  #applySetting(name: string, value: number, index: number): void {
    const known = isSetting(name) && Number.isSafeInteger(value) && value >= SETTINGS[name].min && value <= SETTINGS[name].max;
    if (known) this.#settings.set(name, value);
    this.#commandDone(index, known ? 0 : ERRORS.BAD_REQUEST.number, NO_RESULT);
  }

  #commandDone(index: number, error: number, results: readonly number[]): void {
    this.#digest.mix(error);
    for (const result of results) this.#digest.mix(result);
    this.#listener?.onCommand(index, error, results);
  }

  applied(appliedIndex: number): void {
    this.#listener?.onApplied(appliedIndex);
  }

  snapshot(): Uint8Array {
    const head = {
      featureLevel: this.#featureLevel,
      appliedIndex: this.#appliedIndex,
      logTimeMs: this.#logTimeMs,
      digest: this.#digest.value,
      membership: this.#membership,
    };
    return packState(head, this.#tables());
  }

  /**
   * Replaces the state by a snapshot's. The ConsumeQueues must have been cut back to the snapshot's position before;
   * QueueStore.queue() of a queue that is open already gives the same one.
   * @returns false when one of them does not cover what the state says it holds: restore an older snapshot then
   */
  restore(snapshot: Uint8Array): boolean {
    const before = this.topics.all();
    this.producers.clear();
    this.groups.clear();
    this.topics.clear();
    for (const table of this.#added) table.clear();
    this.#settings.clear();
    const head = unpackState(snapshot, this.#tables(), this.newestFeatureLevel);
    this.#featureLevel = head.featureLevel;
    this.#appliedIndex = head.appliedIndex;
    this.#logTimeMs = head.logTimeMs;
    this.#digest.value = head.digest;
    this.#checkpoint.last = null;
    this.#membership = head.membership;
    let covered = true;
    for (const topic of this.topics.all()) {
      for (const queue of topic.queues) covered = queue.index.restore(queue.logMinOffset, queue.nextOffset) && covered;
    }
    for (const topic of before) if (this.topics.named(topic.name) === undefined) this.#queues.removeTopic(topic.name);
    this.#ids.cut(this.segments.startPosition);
    this.#listener?.onRestored();
    return covered;
  }

  clear(): void {
    const before = this.topics.all();
    this.producers.clear();
    this.groups.clear();
    this.topics.clear();
    this.segments.clear();
    for (const table of this.#added) table.clear();
    this.#settings.clear();
    this.#featureLevel = FIRST_FEATURE_LEVEL;
    this.#appliedIndex = 0;
    this.#logTimeMs = 0;
    this.#endPosition = 0;
    this.#digest.value = Digest.INITIAL;
    this.#checkpoint.last = null;
    this.#membership = null;
    for (const topic of before) this.#queues.removeTopic(topic.name);
    this.#listener?.onRestored();
  }

  #tables(): Parameters<typeof packState>[1] {
    return {
      topics: this.topics,
      producers: this.producers,
      groups: this.groups,
      segments: this.segments,
      settings: this.#settings,
      added: this.#added,
    };
  }

  membership(): { readonly index: number; readonly body: Uint8Array } | null {
    return this.#membership;
  }

  onRoleChange(role: ReplicaRole): void {
    this.#onRole?.(role);
  }
}
