import type { Place } from '../protocol/requests.ts';
import { ByteReader, ByteWriter, MalformedBytes } from './byte-cursor.ts';
import type { AppliedTopic, BrokerKey, BrokerRecord, BrokerRole, GroupRecord, GroupReplica, MemberState, TopicRecord } from './records.ts';

/**
 * A record's bytes are made once, by its owner, and passed on as they are: fields that a later version puts behind the known
 * ones survive a broker that does not know them, and two records are equal when their bytes are.
 */
export const ItemKind = { broker: 1, state: 2, group: 3, topic: 4, fragment: 5 } as const;

/** Larger records are refused where they are made. A placement on 100 groups with the longest names fits. */
export const MAX_RECORD_BYTES = 8 * 1024;
const MAX_NAME_BYTES = 255;
const MAX_ADDRESS_BYTES = 300;
const MAX_REPLICAS = 64;
const MAX_PLACES = 1_024;
const MAX_QUEUES = 0xffff;

const ROLES: readonly BrokerRole[] = ['none', 'follower', 'candidate', 'leader', 'learner'];
const STATES: readonly MemberState[] = ['alive', 'suspect', 'dead'];
const BELOW_RESERVE = 1;
const LAGGING = 2;
const MESSAGE_TYPES = ['normal', 'fifo'] as const;
const DELETED = 1;
/** A place without a perm of its own. */
const TOPIC_PERM = 0xff;

/** A word about a broker without its record: `by` says so of `broker` as of `version`. */
export interface StateItem {
  readonly broker: BrokerKey;
  readonly version: number;
  readonly state: MemberState;
  /** A connection was reset or refused: its process is known to be gone, not merely silent. */
  readonly reset: boolean;
  readonly by: BrokerKey;
}

const scratch = new ByteWriter(MAX_RECORD_BYTES);

/** @throws RangeError when the record is larger than MAX_RECORD_BYTES */
function made(write: (to: ByteWriter) => void): Uint8Array {
  scratch.at = 0;
  write(scratch);
  return Uint8Array.from(scratch.written);
}

function writeKey(to: ByteWriter, { brokerName, replicaId }: BrokerKey): void {
  to.text(brokerName);
  to.u16(replicaId);
}

function readKey(from: ByteReader): BrokerKey {
  const brokerName = from.text(MAX_NAME_BYTES);
  return { brokerName, replicaId: from.u16() };
}

function oneOf<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw new MalformedBytes(`choice ${index}`);
  return value;
}

export function encodeBroker(record: BrokerRecord): Uint8Array {
  return made((to) => {
    writeKey(to, record);
    to.u53(record.version);
    to.text(record.incarnation);
    to.text(record.endpoint);
    to.text(record.admin);
    to.text(record.address.host);
    to.u16(record.address.port);
    to.text(record.machine);
    to.u8(record.perm);
    to.u8(ROLES.indexOf(record.role));
    to.u53(record.term);
    to.u16(record.featureLevel);
    to.u8((record.belowReserve ? BELOW_RESERVE : 0) | (record.lagging ? LAGGING : 0));
    to.u16(record.priority);
  });
}

/** The head alone: most records that arrive are known already. */
export function readBrokerHead(bytes: Uint8Array): { readonly broker: BrokerKey; readonly version: number } {
  const from = new ByteReader(bytes);
  return { broker: readKey(from), version: from.u53() };
}

export function decodeBroker(bytes: Uint8Array): BrokerRecord {
  const from = new ByteReader(bytes);
  const key = readKey(from);
  const version = from.u53();
  const incarnation = from.text(MAX_NAME_BYTES);
  const endpoint = from.text(MAX_ADDRESS_BYTES);
  const admin = from.text(MAX_ADDRESS_BYTES);
  const address = { host: from.text(MAX_NAME_BYTES), port: from.u16() };
  const machine = from.text(MAX_NAME_BYTES);
  const perm = from.u8();
  // A role of a later version is none that this one can use.
  const role = ROLES[from.u8()] ?? 'none';
  const term = from.u53();
  const featureLevel = from.u16();
  const flags = from.u8();
  const belowReserve = (flags & BELOW_RESERVE) !== 0;
  const lagging = (flags & LAGGING) !== 0;
  const priority = from.u16();
  return {
    ...key,
    version,
    incarnation,
    endpoint,
    admin,
    address,
    machine,
    perm,
    role,
    term,
    featureLevel,
    belowReserve,
    lagging,
    priority,
  };
}

export function encodeState(item: StateItem): Uint8Array {
  return made((to) => {
    writeKey(to, item.broker);
    to.u53(item.version);
    to.u8(STATES.indexOf(item.state));
    to.u8(item.reset ? 1 : 0);
    writeKey(to, item.by);
  });
}

export function decodeState(bytes: Uint8Array): StateItem {
  const from = new ByteReader(bytes);
  const broker = readKey(from);
  const version = from.u53();
  const state = oneOf(STATES, from.u8());
  const reset = from.u8() !== 0;
  return { broker, version, state, reset, by: readKey(from) };
}

export function encodeGroup(record: GroupRecord): Uint8Array {
  const writeReplicas = (to: ByteWriter, replicas: readonly GroupReplica[]): void => {
    to.u8(replicas.length);
    for (const { replicaId, host, port } of replicas) {
      to.u16(replicaId);
      to.text(host);
      to.u16(port);
    }
  };
  return made((to) => {
    to.text(record.brokerName);
    to.u53(record.term);
    to.u53(record.configVersion);
    to.u53(record.logIndex);
    to.u16(record.leader);
    writeReplicas(to, record.voters);
    writeReplicas(to, record.learners);
  });
}

export function decodeGroup(bytes: Uint8Array): GroupRecord {
  const from = new ByteReader(bytes);
  const readReplicas = (): GroupReplica[] => {
    const count = from.u8();
    if (count > MAX_REPLICAS) throw new MalformedBytes(`${count} replicas`);
    return Array.from({ length: count }, () => ({ replicaId: from.u16(), host: from.text(MAX_NAME_BYTES), port: from.u16() }));
  };
  const brokerName = from.text(MAX_NAME_BYTES);
  const term = from.u53();
  const configVersion = from.u53();
  const logIndex = from.u53();
  const leader = from.u16();
  const voters = readReplicas();
  return { brokerName, term, configVersion, logIndex, leader, voters, learners: readReplicas() };
}

export function encodeTopic({ brokerName, logIndex, record }: AppliedTopic): Uint8Array {
  return made((to) => {
    to.text(brokerName);
    to.text(record.name);
    to.u53(logIndex);
    to.u53(record.incarnation);
    to.u53(record.version);
    to.u8(record.perm);
    to.u8(MESSAGE_TYPES.indexOf(record.messageType));
    to.u8(record.replication);
    to.u8(record.deleted ? DELETED : 0);
    to.u16(record.placement.length);
    for (const { brokerName: place, queues, perm } of record.placement) {
      to.text(place);
      to.u16(queues);
      to.u8(perm ?? TOPIC_PERM);
    }
  });
}

/** The head alone: most records that arrive are known already. */
export function readTopicHead(bytes: Uint8Array): { readonly brokerName: string; readonly name: string; readonly logIndex: number } {
  const from = new ByteReader(bytes);
  return { brokerName: from.text(MAX_NAME_BYTES), name: from.text(MAX_NAME_BYTES), logIndex: from.u53() };
}

export function decodeTopic(bytes: Uint8Array): AppliedTopic {
  const from = new ByteReader(bytes);
  const brokerName = from.text(MAX_NAME_BYTES);
  const name = from.text(MAX_NAME_BYTES);
  const logIndex = from.u53();
  const incarnation = from.u53();
  const version = from.u53();
  const perm = from.u8();
  const messageType = oneOf(MESSAGE_TYPES, from.u8());
  const replication = from.u8();
  const deleted = (from.u8() & DELETED) !== 0;
  const count = from.u16();
  if (count > MAX_PLACES) throw new MalformedBytes(`${count} groups in a placement`);
  const placement = Array.from({ length: count }, () => readPlace(from));
  const record: TopicRecord = { name, incarnation, version, placement, perm, messageType, replication, deleted };
  return { brokerName, logIndex, record };
}

function readPlace(from: ByteReader): Place {
  const place = { brokerName: from.text(MAX_NAME_BYTES), queues: from.u16() };
  const perm = from.u8();
  return perm === TOPIC_PERM ? place : { ...place, perm };
}

/** Why a topic's record could not be told; null when it can. */
export function untellable(record: TopicRecord): string | null {
  if (record.placement.length > MAX_PLACES) return `${record.placement.length} groups in a placement`;
  if (record.placement.some(({ queues }) => queues > MAX_QUEUES)) return 'queues of a group';
  const sizeBytes = record.placement.reduce((sum, { brokerName }) => sum + Buffer.byteLength(brokerName) + 5, 2 * MAX_NAME_BYTES + 64);
  return sizeBytes > MAX_RECORD_BYTES ? `${sizeBytes} bytes` : null;
}
