import { Packr } from 'msgpackr';
import { assert } from '../base/assert.ts';
import { writeU32 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import type { AllocateStrategy } from '../protocol/allocate-strategies.ts';
import type { LongerRetention, Quota } from '../protocol/requests.ts';
import type { ConfiguredQueue } from './assignment/types.ts';
import { assertLevelKnown, FEATURE_LEVELS, NEWEST_FEATURE_LEVEL } from './feature-level.ts';
import type { PopCommand } from './pop/commands.ts';

/**
 * Commands of the state machine: the bodies of `command` entries, [CRC-32 u32][msgpack array [level, number, …fields]].
 *
 * `level` is the feature level that a replica needs to read the command. Numbers and field order are on disk and never reused; a
 * command that needs other fields gets a new number under a new level. Queues are named by number (topicId, queueId), so that a
 * topic made again under an old name cannot inherit anything.
 */

/** [topicId, queueId, offset, owner epoch] */
export type QueueOffset = readonly [topicId: number, queueId: number, offset: number, epoch: number];
/** One member's commit; an empty member commits unfenced. */
export type GatheredCommit = readonly [group: string, member: string, offsets: readonly QueueOffset[]];

export interface TopicCreate {
  readonly type: 'topicCreate';
  readonly name: string;
  readonly queues: number;
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  readonly replication: number;
}
/** −1 leaves a field as it is. */
export interface TopicUpdate {
  readonly type: 'topicUpdate';
  readonly name: string;
  readonly queues: number;
  readonly perm: number;
  readonly replication: number;
}
export interface TopicDelete {
  readonly type: 'topicDelete';
  readonly name: string;
}
/**
 * The cluster-wide record of a topic, whole. `places`: [brokerName, queues, perm], sorted; perm −1 is the topic's. Queues of
 * other groups are kept, too: every leader assigns over all of them (F07).
 */
export interface TopicPut {
  readonly type: 'topicPut';
  readonly name: string;
  readonly incarnation: number;
  readonly version: number;
  readonly places: readonly (readonly [brokerName: string, queues: number, perm: number])[];
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  readonly replication: number;
  readonly deleted: boolean;
}
/**
 * The same from who saw this incarnation here and changes what it saw: refused when the topic is gone or was changed meanwhile, which
 * a record that is only passed on never is.
 */
export interface TopicChange extends Omit<TopicPut, 'type'> {
  readonly type: 'topicChange';
}
/** All groups of the placement have applied the tombstone of that incarnation and version. */
export interface TopicForget {
  readonly type: 'topicForget';
  readonly name: string;
  readonly incarnation: number;
  readonly version: number;
}
export interface OffsetCommit {
  readonly type: 'offsetCommit';
  readonly commits: readonly GatheredCommit[];
}
export interface GroupJoin {
  readonly type: 'groupJoin';
  readonly group: string;
  readonly member: string;
  readonly address: string;
  /** Sorted, without duplicates. */
  readonly topics: readonly string[];
  readonly strategy: 'sticky';
  readonly sessionTimeoutMs: number;
}
/** A join that says more than `sticky` needs. Lists are sorted and without duplicates. */
export interface GroupJoinBy {
  readonly type: 'groupJoinBy';
  readonly group: string;
  readonly member: string;
  readonly address: string;
  readonly topics: readonly string[];
  readonly strategy: AllocateStrategy;
  readonly sessionTimeoutMs: number;
  /** Of the member. */
  readonly zone: string;
  /** byConfig: what the member wants. */
  readonly queues: readonly ConfiguredQueue[];
  /** Where broker groups are, and whose queues are consumed: all members say the same. */
  readonly brokerZones: readonly (readonly [brokerName: string, zone: string])[];
  readonly machineRooms: readonly string[];
  /** The member knows of retries. */
  readonly retries: boolean;
  /** What its subscriptions filter by at the broker; NO_FILTER_HASH: not said. */
  readonly filterHash: number;
}
export interface GroupLeave {
  readonly type: 'groupLeave';
  readonly group: string;
  readonly member: string;
}
/** `joinIndex`: the join that the session belonged to; a member that joined again meanwhile stays. */
export interface GroupExpire {
  readonly type: 'groupExpire';
  readonly group: string;
  readonly member: string;
  readonly joinIndex: number;
}
export interface GroupRelease {
  readonly type: 'groupRelease';
  readonly group: string;
  readonly member: string;
  readonly queues: readonly QueueOffset[];
}
/** The owner did not release in time. The epoch says which ownership is meant. */
export interface GroupRevokeTimeout {
  readonly type: 'groupRevokeTimeout';
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly epoch: number;
}
export interface GroupResetOffset {
  readonly type: 'groupResetOffset';
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly offset: number;
}
/** The log starts at `position` from here on: the base of a segment. */
export interface Cut {
  readonly type: 'cut';
  readonly position: number;
}
/**
 * The same, of a log from which whoever proposes it has carried on what is still referred to: everything before `position` that entries up
 * to index `asOf` refer to. What queues have before `expired`, the base of that segment or a later one, is not retained any more, though its
 * bytes may stay.
 */
export interface CutCarried {
  readonly type: 'cutCarried';
  readonly position: number;
  readonly expired: number;
  readonly asOf: number;
}
/**
 * Where the bytes of batches are now that rows in queues refer to. [position where it was stored first, position of its copy, log time
 * at which it was stored, …]
 */
export interface Carry {
  readonly type: 'carry';
  readonly batches: readonly number[];
}
/** Of each row of the entry: [position of the unit that waited, position of the batch that it stood for, ms of log time when it is due, …]. */
type CarriedUnits = readonly number[];
/** A level's messages of [from, to) wait as rows from here on. */
export interface DelayLevelCarry {
  readonly type: 'delayLevelCarry';
  readonly level: number;
  readonly from: number;
  readonly to: number;
  readonly units: CarriedUnits;
}
/** Timers wait as rows from here on. */
export interface TimersCarry {
  readonly type: 'timersCarry';
  readonly units: CarriedUnits;
}
/** Where the bytes of half messages are now: [transaction, position before, position of the copy, …]. */
export interface HalvesCarry {
  readonly type: 'halvesCarry';
  readonly halves: readonly number[];
}
export interface SetSetting {
  readonly type: 'setSetting';
  readonly name: string;
  readonly value: number;
}
/** Carries its own level, so that a release that does not know it ends here instead of applying what follows. */
export interface FeatureLevelRaise {
  readonly type: 'featureLevelRaise';
  readonly level: number;
}

/** The delay of each level, level 1 first, ms. */
export interface DelayLevelsSet {
  readonly type: 'delayLevelsSet';
  readonly delaysMs: readonly number[];
}
/**
 * A level's messages of [from, to) are due; the rows deliver them. `position`, `dueMs`: of the last unit of them. `released`: pairs
 * [segment base, references that end].
 */
export interface DelayLevelDue {
  readonly type: 'delayLevelDue';
  readonly level: number;
  readonly from: number;
  readonly to: number;
  readonly position: number;
  readonly dueMs: number;
  /** Positions of those among them of which something was cancelled. */
  readonly cancelled: readonly number[];
  readonly released: readonly number[];
}
/**
 * All timers after the first place in the order of delivery, up to the second one, are due; the rows deliver them. `asOf`: index up to
 * which whoever gathered them had applied the log, and the log's time there. `passed`: pairs [bucket, units].
 */
export interface TimersDue {
  readonly type: 'timersDue';
  readonly fromDueMs: number;
  readonly fromPosition: number;
  readonly toDueMs: number;
  readonly toPosition: number;
  readonly asOf: number;
  readonly asOfLogTimeMs: number;
  readonly passed: readonly number[];
  /** Positions of those among them of which something was cancelled. */
  readonly cancelled: readonly number[];
  readonly released: readonly number[];
}
/** A message of the batch that waits at `position` is not delivered. `level` 0: it waits for a time, `dueMs`. */
export interface DelayCancel {
  readonly type: 'delayCancel';
  readonly position: number;
  readonly messageIndex: number;
  readonly level: number;
  readonly dueMs: number;
}
/** The group's %RETRY% topic, or its %DLQ% topic, is made here. */
export interface RetryTopicMake {
  readonly type: 'retryTopicMake';
  readonly group: string;
  readonly dead: boolean;
}
/** [offset in the queue, delay level, delay ms]: a level −1 makes a dead letter, a delay above 0 counts instead of the level. */
export type SentBack = readonly [offset: number, delayLevel: number, delayMs: number];
/** A delivery entry: row i is where message i is to be delivered next. */
export interface SendBack {
  readonly type: 'sendBack';
  readonly group: string;
  readonly member: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly epoch: number;
  readonly messages: readonly SentBack[];
}
/** Dead letters of the group were sent to their topic again. */
export interface DeadLetterMark {
  readonly type: 'deadLetterMark';
  readonly group: string;
  readonly offsets: readonly number[];
}
/** The first outcome of a transaction ends it. A commit is a delivery: its row gives the message its place. */
export interface TransactionEnd {
  readonly type: 'transactionEnd';
  /** Position of the half message's entry when it was stored. */
  readonly transaction: number;
  readonly messageId: string;
  readonly producerGroup: string;
  readonly commit: boolean;
}
/** Transactions whose producer groups are asked now, each with the times that they were asked before. */
export interface TransactionChecks {
  readonly type: 'transactionChecks';
  readonly checks: readonly (readonly [transaction: number, before: number])[];
}
/** Asked for too often: rolled back. Row by row they are placed in TRANS_CHECK_MAX_TIME_TOPIC. */
export interface TransactionsExpire {
  readonly type: 'transactionsExpire';
  readonly transactions: readonly number[];
}

/** A quota of that kind and name is replaced. */
export interface QuotaSet extends Quota {
  readonly type: 'quotaSet';
}
/** One that is not there is fine. */
export interface QuotaRemove {
  readonly type: 'quotaRemove';
  readonly kind: Quota['kind'];
  readonly name: string;
}

/** The longer retention of that name is replaced. */
export interface RetentionSet extends LongerRetention {
  readonly type: 'retentionSet';
}
/** One that is not there is fine. */
export interface RetentionRemove {
  readonly type: 'retentionRemove';
  readonly name: string;
}
/** A delivery entry: its rows are what a queue has from an offset on, as copied to the log's head; the times at which each was stored first. */
export interface Keep {
  readonly type: 'keep';
  readonly topicId: number;
  readonly queueId: number;
  readonly from: number;
  readonly logTimesMs: readonly number[];
}

export type Command =
  | QuotaSet
  | QuotaRemove
  | RetentionSet
  | RetentionRemove
  | Keep
  | TopicCreate
  | TopicUpdate
  | TopicDelete
  | OffsetCommit
  | GroupJoin
  | GroupJoinBy
  | GroupLeave
  | GroupExpire
  | GroupRelease
  | GroupRevokeTimeout
  | GroupResetOffset
  | Cut
  | CutCarried
  | Carry
  | DelayLevelCarry
  | TimersCarry
  | HalvesCarry
  | SetSetting
  | FeatureLevelRaise
  | TopicPut
  | TopicChange
  | TopicForget
  | DelayLevelsSet
  | DelayLevelDue
  | TimersDue
  | DelayCancel
  | PopCommand
  | RetryTopicMake
  | SendBack
  | DeadLetterMark
  | TransactionEnd
  | TransactionChecks
  | TransactionsExpire;

interface CommandLayout {
  readonly number: number;
  readonly fields: readonly string[];
  /** Default: the first. */
  readonly level?: number;
}
type Layout = { readonly [T in Command['type']]: CommandLayout };

const LAYOUT: Layout = {
  topicCreate: { number: 1, fields: ['name', 'queues', 'perm', 'messageType', 'replication'] },
  topicUpdate: { number: 2, fields: ['name', 'queues', 'perm', 'replication'] },
  topicDelete: { number: 3, fields: ['name'] },
  offsetCommit: { number: 4, fields: ['commits'] },
  groupJoin: { number: 5, fields: ['group', 'member', 'address', 'topics', 'strategy', 'sessionTimeoutMs'] },
  groupLeave: { number: 6, fields: ['group', 'member'] },
  groupExpire: { number: 7, fields: ['group', 'member', 'joinIndex'] },
  groupRelease: { number: 8, fields: ['group', 'member', 'queues'] },
  groupRevokeTimeout: { number: 9, fields: ['group', 'topicId', 'queueId', 'epoch'] },
  groupResetOffset: { number: 10, fields: ['group', 'topicId', 'queueId', 'offset'] },
  cut: { number: 11, fields: ['position'] },
  cutCarried: { number: 70, fields: ['position', 'expired', 'asOf'], level: FEATURE_LEVELS.carrying },
  carry: { number: 71, fields: ['batches'], level: FEATURE_LEVELS.carrying },
  delayLevelCarry: { number: 72, fields: ['level', 'from', 'to', 'units'], level: FEATURE_LEVELS.carrying },
  timersCarry: { number: 73, fields: ['units'], level: FEATURE_LEVELS.carrying },
  halvesCarry: { number: 74, fields: ['halves'], level: FEATURE_LEVELS.carrying },
  retentionSet: { number: 75, fields: ['name', 'retentionMs', 'maxBytes'], level: FEATURE_LEVELS.keeping },
  retentionRemove: { number: 76, fields: ['name'], level: FEATURE_LEVELS.keeping },
  keep: { number: 77, fields: ['topicId', 'queueId', 'from', 'logTimesMs'], level: FEATURE_LEVELS.keeping },
  setSetting: { number: 12, fields: ['name', 'value'] },
  featureLevelRaise: { number: 13, fields: ['level'] },
  topicPut: {
    number: 14,
    fields: ['name', 'incarnation', 'version', 'places', 'perm', 'messageType', 'replication', 'deleted'],
    level: FEATURE_LEVELS.cluster,
  },
  topicChange: {
    number: 17,
    fields: ['name', 'incarnation', 'version', 'places', 'perm', 'messageType', 'replication', 'deleted'],
    level: FEATURE_LEVELS.messaging,
  },
  topicForget: { number: 15, fields: ['name', 'incarnation', 'version'], level: FEATURE_LEVELS.cluster },
  quotaSet: {
    number: 60,
    fields: ['kind', 'name', 'each', 'bytesPerSecond', 'messagesPerSecond', 'connections', 'topics'],
    level: FEATURE_LEVELS.messaging,
  },
  quotaRemove: { number: 61, fields: ['kind', 'name'], level: FEATURE_LEVELS.messaging },
  groupJoinBy: {
    number: 16,
    fields: [
      'group',
      'member',
      'address',
      'topics',
      'strategy',
      'sessionTimeoutMs',
      'zone',
      'queues',
      'brokerZones',
      'machineRooms',
      'retries',
      'filterHash',
    ],
    level: FEATURE_LEVELS.messaging,
  },
  delayLevelsSet: { number: 20, fields: ['delaysMs'], level: FEATURE_LEVELS.messaging },
  delayLevelDue: {
    number: 21,
    fields: ['level', 'from', 'to', 'position', 'dueMs', 'cancelled', 'released'],
    level: FEATURE_LEVELS.messaging,
  },
  timersDue: {
    number: 22,
    fields: ['fromDueMs', 'fromPosition', 'toDueMs', 'toPosition', 'asOf', 'asOfLogTimeMs', 'passed', 'cancelled', 'released'],
    level: FEATURE_LEVELS.messaging,
  },
  delayCancel: { number: 23, fields: ['position', 'messageIndex', 'level', 'dueMs'], level: FEATURE_LEVELS.messaging },
  retryTopicMake: { number: 40, fields: ['group', 'dead'], level: FEATURE_LEVELS.messaging },
  sendBack: { number: 41, fields: ['group', 'member', 'topicId', 'queueId', 'epoch', 'messages'], level: FEATURE_LEVELS.messaging },
  deadLetterMark: { number: 42, fields: ['group', 'offsets'], level: FEATURE_LEVELS.messaging },
  popTake: {
    number: 50,
    fields: ['group', 'topicId', 'queueId', 'from', 'count', 'invisibleMs'],
    level: FEATURE_LEVELS.messaging,
  },
  popRevive: { number: 51, fields: ['group', 'topicId', 'queueId', 'checkpoint', 'upTo', 'invisibleMs'], level: FEATURE_LEVELS.messaging },
  popAck: { number: 52, fields: ['receipts'], level: FEATURE_LEVELS.messaging },
  popChange: { number: 53, fields: ['receipt', 'invisibleMs'], level: FEATURE_LEVELS.messaging },
  popBury: { number: 54, fields: ['group', 'topicId', 'queueId', 'checkpoint'], level: FEATURE_LEVELS.messaging },
  transactionEnd: {
    number: 30,
    fields: ['transaction', 'messageId', 'producerGroup', 'commit'],
    level: FEATURE_LEVELS.messaging,
  },
  transactionChecks: { number: 31, fields: ['checks'], level: FEATURE_LEVELS.messaging },
  transactionsExpire: { number: 32, fields: ['transactions'], level: FEATURE_LEVELS.messaging },
};

const TYPE_OF = new Map((Object.keys(LAYOUT) as Command['type'][]).map((type) => [LAYOUT[type].number, type]));

/** Plain arrays, strings and numbers: the same value always gives the same bytes. */
export const plainPackr = new Packr({ useRecords: false, moreTypes: false, structuredClone: false });

/** The feature level that every replica must have before this may be proposed; the raise itself is what brings it. */
export function levelOf(command: Command): number {
  if (command.type === 'featureLevelRaise') return command.level;
  return (LAYOUT[command.type] as CommandLayout).level ?? FEATURE_LEVELS.group;
}

/** @returns a fresh body, its checksum in the first four bytes */
export function encodeCommand(command: Command): Uint8Array {
  const { number, fields } = LAYOUT[command.type];
  const values = fields.map((field) => (command as unknown as Record<string, unknown>)[field]);
  const packed = plainPackr.pack([levelOf(command), number, ...values]);
  const body = new Uint8Array(4 + packed.length);
  body.set(packed, 4);
  writeU32(body, 0, crc32(body.subarray(4)));
  return body;
}

/**
 * @param newestLevel what this replica can read
 * @throws AssertionError for a command of a newer release: applying half of it would split the replicas
 */
export function decodeCommand(body: Uint8Array, newestLevel = NEWEST_FEATURE_LEVEL): Command {
  const values = plainPackr.unpack(body.subarray(4)) as unknown[];
  assert(Array.isArray(values), 'a command is a list');
  assertLevelKnown(values[0] as number, newestLevel, 'a command of the log');
  const type = TYPE_OF.get(values[1] as number);
  assert(type !== undefined, `command ${String(values[1])} is not known to this release`);
  const { fields } = LAYOUT[type];
  assert(values.length === fields.length + 2, `command ${type} has ${values.length - 2} fields`);
  const command: Record<string, unknown> = { type };
  fields.forEach((field, i) => {
    command[field] = values[i + 2];
  });
  const read = command as unknown as Command;
  assert(levelOf(read) === values[0], `command ${type} of feature level ${String(values[0])} is not known to this release`);
  return read;
}
