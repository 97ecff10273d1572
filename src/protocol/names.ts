import { LedgerError } from './errors.ts';

/** RocketMQ's rules for names (remoting §12). Retry and dead-letter topics may be longer than what users create. */
export const MAX_TOPIC_CHARACTERS = 127;
export const MAX_GROUP_CHARACTERS = 120;
export const MAX_INTERNAL_TOPIC_CHARACTERS = 255;

export const RETRY_TOPIC_PREFIX = '%RETRY%';
export const DLQ_TOPIC_PREFIX = '%DLQ%';
export const LIGHT_QUEUE_PREFIX = '%LMQ%';
/** Half messages that nobody answered for: rolled back, and kept here. */
export const DISCARDED_HALVES_TOPIC = 'TRANS_CHECK_MAX_TIME_TOPIC';

const CHARACTERS = /^[%|a-zA-Z0-9_-]+$/;

const SYSTEM_TOPICS = new Set([
  'TBW102',
  'SCHEDULE_TOPIC_XXXX',
  'BenchmarkTest',
  'RMQ_SYS_TRANS_HALF_TOPIC',
  'RMQ_SYS_TRANS_OP_HALF_TOPIC',
  DISCARDED_HALVES_TOPIC,
  'RMQ_SYS_TRACE_TOPIC',
  'SELF_TEST_TOPIC',
  'OFFSET_MOVED_EVENT',
  'CHECKPOINT_TOPIC',
]);
const SYSTEM_TOPIC_PREFIX = 'rmq_sys_';
const REPLY_TOPIC_SUFFIX = '_REPLY_TOPIC';

/** System topics that clients may not send to; to the others (trace, reply) they may. */
const FORBIDDEN_TOPICS = new Set([
  'SCHEDULE_TOPIC_XXXX',
  'RMQ_SYS_TRANS_HALF_TOPIC',
  'RMQ_SYS_TRANS_OP_HALF_TOPIC',
  DISCARDED_HALVES_TOPIC,
  'SELF_TEST_TOPIC',
  'OFFSET_MOVED_EVENT',
]);

const SYSTEM_GROUPS = new Set(['TOOLS_CONSUMER', 'CLIENT_INNER_PRODUCER', 'SELF_TEST_P_GROUP', 'SELF_TEST_C_GROUP']);
const SYSTEM_GROUP_PREFIXES = ['CID_RMQ_SYS_', 'CID_ONSAPI_'];

function checkName(kind: string, name: string, maxCharacters: number): void {
  if (name.length === 0) throw new LedgerError('BAD_NAME', `the ${kind} name is empty`);
  if (name.length > maxCharacters)
    throw new LedgerError('BAD_NAME', `the ${kind} name has ${name.length} characters, ${maxCharacters} at most are allowed`);
  if (!CHARACTERS.test(name))
    throw new LedgerError('BAD_NAME', `the ${kind} name ${JSON.stringify(name)} has characters other than letters, digits, % | - _`);
}

/** Any topic that is named in a request. @throws LedgerError BAD_NAME */
export function checkTopicName(topic: string): void {
  checkName('topic', topic, isRetryTopic(topic) || isDlqTopic(topic) ? MAX_INTERNAL_TOPIC_CHARACTERS : MAX_TOPIC_CHARACTERS);
}

/** A topic that a user creates: system names and internal prefixes are taken. @throws LedgerError BAD_NAME */
export function checkNewTopicName(topic: string): void {
  checkTopicName(topic);
  if (isReservedTopic(topic)) throw new LedgerError('BAD_NAME', `the topic name ${topic} is reserved`);
}

/** Topics that a client sends to. @throws LedgerError BAD_NAME */
export function checkSendTopicName(topic: string): void {
  checkTopicName(topic);
  if (FORBIDDEN_TOPICS.has(topic)) throw new LedgerError('BAD_NAME', `nobody may send to the system topic ${topic}`);
}

/** A consumer or producer group. @throws LedgerError BAD_NAME */
export function checkGroupName(group: string): void {
  checkName('group', group, MAX_GROUP_CHARACTERS);
}

/** A group that a user's consumer joins: RocketMQ's own group names are taken. @throws LedgerError BAD_NAME */
export function checkUserGroupName(group: string): void {
  checkGroupName(group);
  if (isSystemGroup(group)) throw new LedgerError('BAD_NAME', `the group name ${group} is reserved`);
}

/** One text, whoever finds that there is no such topic. */
export const noTopicText = (topic: string): string => `no topic ${JSON.stringify(topic)}`;

export function topicNotFound(topic: string): LedgerError {
  return new LedgerError('TOPIC_NOT_FOUND', noTopicText(topic));
}

export function isSystemTopic(topic: string): boolean {
  return SYSTEM_TOPICS.has(topic) || topic.startsWith(SYSTEM_TOPIC_PREFIX) || topic.endsWith(REPLY_TOPIC_SUFFIX);
}

/** System topics and the internal ones that belong to a group: not for users to create. */
export function isReservedTopic(topic: string): boolean {
  return isSystemTopic(topic) || topic.startsWith('%');
}

export const isRetryTopic = (topic: string): boolean => topic.startsWith(RETRY_TOPIC_PREFIX);
export const isDlqTopic = (topic: string): boolean => topic.startsWith(DLQ_TOPIC_PREFIX);
export const retryTopicOf = (group: string): string => RETRY_TOPIC_PREFIX + group;
export const dlqTopicOf = (group: string): string => DLQ_TOPIC_PREFIX + group;

export function isSystemGroup(group: string): boolean {
  return SYSTEM_GROUPS.has(group) || SYSTEM_GROUP_PREFIXES.some((prefix) => group.startsWith(prefix));
}
