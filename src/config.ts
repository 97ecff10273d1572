import { DEFAULT_DELAY_LEVELS, DELAY_LEVELS_PATTERN, parseDelayLevels } from './base/delay-table.ts';

/**
 * Every setting of a broker, once. Types, flags (`--kebab-case`), environment (`LEDGERMQ_UPPER_SNAKE`), keys of the JSON
 * file, help and docs/reference/config.md are derived from the table below. Flags win over the environment, that over the
 * file, that over the default.
 */
export interface ReplicaAddress {
  readonly replicaId: number;
  readonly host: string;
  /** Client port P; peers use P+1, admin P+2. */
  readonly port: number;
}

interface Described {
  /** One sentence for help and reference. */
  readonly text: string;
}
interface NumberSetting extends Described {
  readonly kind: 'number';
  readonly unit: string;
  readonly min: number;
  readonly max: number;
  readonly default: number;
}
interface TextSetting extends Described {
  readonly kind: 'text';
  readonly pattern: RegExp;
  /** What `pattern` says, for people. */
  readonly range: string;
  readonly default: string;
  /** Never printed. */
  readonly secret?: true;
}
interface ChoiceSetting extends Described {
  readonly kind: 'choice';
  readonly choices: readonly string[];
  readonly default: string;
}
interface ReplicasSetting extends Described {
  readonly kind: 'replicas';
  readonly default: readonly ReplicaAddress[];
}
export type Setting = NumberSetting | TextSetting | ChoiceSetting | ReplicasSetting;

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
/** An entry's body at most (src/log/layout.ts): a 4 MiB message with its properties and headers. */
const ENTRY_BODY_BYTES = 4 * MIB + 128 * KIB;

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const NAME_RANGE = '1–64 of A–Z a–z 0–9 _ -';
const HOST = /^[A-Za-z0-9.:_-]{1,253}$/;
const HOST_RANGE = 'a host name or address';

const num = (defaultValue: number, unit: string, min: number, max: number, text: string) =>
  ({ kind: 'number', unit, min, max, default: defaultValue, text }) as const;

export const SETTINGS = {
  clusterId: {
    kind: 'text',
    pattern: NAME,
    range: NAME_RANGE,
    default: 'ledgermq',
    text: 'Name of the cluster; a data directory of another one is refused.',
  },
  brokerName: {
    kind: 'text',
    pattern: NAME,
    range: NAME_RANGE,
    default: 'a',
    text: 'Name of the broker group that this replica belongs to.',
  },
  replicaId: num(1, 'id', 1, 7, 'Id of this replica in its group; never given to another data directory.'),
  dataDir: {
    kind: 'text',
    pattern: /^[^\0]{1,4096}$/,
    range: 'a path',
    default: './data/broker',
    text: 'Directory of log, votes and snapshots; made when missing.',
  },
  host: { kind: 'text', pattern: HOST, range: HOST_RANGE, default: '127.0.0.1', text: 'Address that all ports are bound to.' },
  advertisedHost: {
    kind: 'text',
    pattern: /^$|^[A-Za-z0-9.:_-]{1,253}$/,
    range: `${HOST_RANGE}, or empty`,
    default: '',
    text: "Host that clients are told; empty takes this replica's host in `replicas`.",
  },
  port: num(7460, 'port', 1, 65_531, 'Client port P (WebSocket); peers use P+1 (TCP, and UDP for gossip), admin HTTP P+2.'),
  replicas: {
    kind: 'replicas',
    default: [],
    text: 'All replicas of the group with their client ports, this one included; empty makes a group of one.',
  },
  machine: {
    kind: 'text',
    pattern: /^[A-Za-z0-9._:-]{0,253}$/,
    range: 'a name of letters, digits and . _ : -, or empty',
    default: '',
    text: 'The machine that this replica runs on: leaders are spread over machines. Empty: advertisedHost.',
  },
  seeds: {
    kind: 'text',
    pattern: /^$|^[A-Za-z0-9.:_[\]-]{1,253}:\d{1,5}(,[A-Za-z0-9.:_[\]-]{1,253}:\d{1,5})*$/,
    range: 'HOST:PORT, comma-separated, or empty',
    default: '',
    text: 'Brokers of other groups to find the cluster by, with their client ports P (gossip is at P+1, UDP); names are resolved at each use. The replicas of the own group need not be named.',
  },
  peerSecret: {
    kind: 'text',
    pattern: /^.{0,1024}$/,
    range: 'at most 1,024 characters',
    default: '',
    secret: true,
    text: 'Shared key of the MAC between replicas; empty protects against mistakes only, not against strangers.',
  },

  flush: {
    kind: 'choice',
    choices: ['sync', 'async'],
    default: 'sync',
    text: 'sync: an acknowledgement waits for stable storage on a majority; async: it does not.',
  },
  asyncFlushMs: num(50, 'ms', 1, 10_000, 'With flush=async: how much time may lie between two flushes.'),
  replication: {
    kind: 'choice',
    choices: ['leader', 'quorum', 'all'],
    default: 'quorum',
    text: 'Minimum replication of topics that do not name one.',
  },

  segmentBytes: num(
    GIB,
    'bytes',
    16 * MIB,
    16 * GIB,
    'Size of a segment file of the CommitLog; a multiple of 1 MiB, fixed for a data directory.',
  ),
  hotTailBytes: num(64 * MIB, 'bytes', 8 * MIB, 64 * GIB, 'Newest log bytes kept in memory for consumers and followers.'),
  snapshotIntervalBytes: num(256 * MIB, 'bytes', 16 * MIB, 64 * GIB, 'Log bytes between two state snapshots; bounds recovery.'),
  retentionHours: num(72, 'hours', 0, 1_000_000, 'Age after which log segments are deleted; 0 keeps them.'),
  retentionBytes: num(0, 'bytes', 0, Number.MAX_SAFE_INTEGER, 'Size above which the oldest log segments are deleted; 0 sets no bound.'),
  retentionDiskPercent: num(
    0,
    '%',
    0,
    99,
    "Use of the leader's file system above which the oldest log segments are deleted, however young; 0 sets no bound.",
  ),
  messageDelayLevel: {
    kind: 'text',
    pattern: DELAY_LEVELS_PATTERN,
    range: '1–64 delays with their units (s m h d), 40 days each at most',
    default: DEFAULT_DELAY_LEVELS,
    text: 'The delays of `delayTimeLevel` 1, 2, …; a new leader brings the group in line with its own.',
  },
  transactionTimeoutMs: num(
    6_000,
    'ms',
    0,
    259_200_000,
    'From a half message to the first time that its producer group is asked for the outcome (RocketMQ: transactionTimeOut).',
  ),
  transactionCheckIntervalMs: num(60_000, 'ms', 100, 259_200_000, 'Between two such questions, and from the last one to the rollback.'),
  transactionCheckMax: num(
    15,
    'times',
    0,
    10_000,
    'Questions before the transaction is rolled back and its message kept in TRANS_CHECK_MAX_TIME_TOPIC.',
  ),

  electionTimeoutMs: num(
    600,
    'ms',
    50,
    60_000,
    'Silence of the leader after which a replica campaigns; the actual time is drawn between one and two times this.',
  ),
  heartbeatIntervalMs: num(100, 'ms', 5, 10_000, 'Time between two heartbeats of a leader; at most a third of the election timeout.'),
  leaderPriority: num(
    0,
    '',
    0,
    65_535,
    'Of the live replicas in sync the one with the highest leads. Equal ones: whoever was elected, or as leaderBalance spreads them.',
  ),
  leaderBalance: {
    kind: 'choice',
    choices: ['on', 'off'],
    default: 'on',
    text: 'on: leaders spread over the machines by themselves, until none leads more than one broker group above another; off: `ledgermq cluster balance` does it.',
  },
  followerReadBehindBytes: num(
    64 * MIB,
    'bytes',
    0,
    Number.MAX_SAFE_INTEGER,
    'A consumer so far behind the end of the log whose messages are not in memory any more is told to read from a follower; 0 = never.',
  ),
  maxUncommittedBytes: num(64 * MIB, 'bytes', 8 * MIB, 4 * GIB, 'Proposed bytes that wait for their commit; more are refused with BUSY.'),
  peerWindowBytes: num(32 * MIB, 'bytes', 8 * MIB, GIB, 'Bytes on their way to one follower without an answer.'),
  peerWindowGroups: num(256, 'write groups', 1, 65_536, 'Write groups on their way to one follower without an answer.'),
  catchUpBytesPerSecond: num(
    128 * MIB,
    'bytes/s',
    MIB,
    64 * GIB,
    'Rate at which a leader reads old log bytes from disk for followers that are behind.',
  ),

  scrubBytesPerSecond: num(
    8 * MIB,
    'bytes/s',
    0,
    64 * GIB,
    'Rate at which stored log bytes are read again, verified and compared with the other replicas; 0 = never.',
  ),

  maxMessageBytes: num(4 * MIB, 'bytes', KIB, 4 * MIB, "A message's body at most."),
  maxBatchBytes: num(
    ENTRY_BODY_BYTES,
    'bytes',
    // Producers gather 256 KiB before they know the broker: below it small messages would be refused together.
    320 * KIB,
    ENTRY_BODY_BYTES,
    'A record batch at most; at least 64 KiB more than a message.',
  ),
  maxConnections: num(10_000, 'connections', 1, 1_000_000, 'Client connections; further ones are refused with TOO_MANY.'),
  maxConnectionRequests: num(
    8192,
    'requests',
    1,
    1_000_000,
    'Unanswered requests of one connection; further ones are refused with TOO_MANY.',
  ),
  sendWindowBytes: num(
    16 * MIB,
    'bytes',
    8 * MIB,
    GIB,
    'Raw bytes of sends that one connection may have unanswered; reading stops above it.',
  ),
  maxConnectionBufferBytes: num(
    32 * MIB,
    'bytes',
    8 * MIB,
    GIB,
    'Bytes waiting to be sent to one connection; pulls wait above it, and twice this closes it.',
  ),
  maxPullBytes: num(4 * MIB, 'bytes', 64 * KIB, 64 * MIB, 'Raw bytes of one answer to a pull; a single larger batch is still sent.'),
  maxPullWaitMs: num(60_000, 'ms', 0, 600_000, 'Longest long poll; a longer wish is shortened.'),
  maxWaiters: num(100_000, 'pulls', 1, 10_000_000, 'Long polls that wait at once; further ones are answered empty at once.'),

  minSessionTimeoutMs: num(1000, 'ms', 100, 3_600_000, 'Shortest session that a consumer may ask for.'),
  maxSessionTimeoutMs: num(300_000, 'ms', 1000, 3_600_000, 'Longest session that a consumer may ask for.'),
  sessionGraceMs: num(3000, 'ms', 0, 600_000, 'After an unclean close: how long a consumer keeps its queues.'),
  offsetCommitIntervalMs: num(100, 'ms', 1, 10_000, 'Offset commits are gathered to one log entry per this time.'),

  onMajorityLoss: {
    kind: 'choice',
    choices: ['wait', 'recover'],
    default: 'wait',
    text: 'When all other voters of the group have lost their directories. wait: nothing is acknowledged until an operator decides (`ledgermq raft recover`); recover: after majorityLossGraceMs this replica ends, and goes on alone at its next start, in a new epoch; what only the others had is lost.',
  },
  majorityLossGraceMs: num(600_000, 'ms', 1_000, 86_400_000, 'How long the other voters must have answered with other directories first.'),
  featureLevelAutoRaise: {
    kind: 'choice',
    choices: ['on', 'off'],
    default: 'on',
    text: 'on: the leader raises the feature level once all replicas of the group know a higher one; off: `ledgermq cluster upgrade` does, and until then an older release can be started again.',
  },
  drainTimeoutMs: num(10_000, 'ms', 0, 600_000, 'On SIGTERM: how long leadership and pending answers are waited for.'),
  logLevel: {
    kind: 'choice',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    default: 'info',
    text: 'Least severe log line that is written.',
  },
} as const satisfies Record<string, Setting>;

export type ConfigKey = keyof typeof SETTINGS;

type ValueOf<S> = S extends { kind: 'number' }
  ? number
  : S extends { kind: 'choice'; choices: readonly (infer C)[] }
    ? C
    : S extends { kind: 'replicas' }
      ? readonly ReplicaAddress[]
      : string;

/** A checked configuration. `replicas` and `advertisedHost` are never empty here. */
export type BrokerConfig = { readonly [K in ConfigKey]: ValueOf<(typeof SETTINGS)[K]> };

export const CONFIG_KEYS = Object.keys(SETTINGS) as readonly ConfigKey[];

/** Wrong configuration. Each problem names the key, the value and what is allowed. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

export function settingOf(key: ConfigKey): Setting {
  return SETTINGS[key];
}

/** `electionTimeoutMs` → `election-timeout-ms` */
export function flagOf(key: ConfigKey): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `electionTimeoutMs` → `LEDGERMQ_ELECTION_TIMEOUT_MS` */
export function environmentOf(key: ConfigKey): string {
  return `LEDGERMQ_${flagOf(key).replaceAll('-', '_').toUpperCase()}`;
}

export interface ConfigSources {
  /** By key (camelCase). A key that is no setting is refused. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Variables that name no setting are left alone: Kubernetes makes some of the same prefix for each service. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Parsed JSON file, by key. A key that is no setting is refused. */
  readonly file?: unknown;
}

/** @throws ConfigError with every problem found, not only the first */
export function resolveConfig(sources: ConfigSources): BrokerConfig {
  const problems: string[] = [];
  const raw = new Map<ConfigKey, { value: unknown; from: string }>();
  const take = (values: unknown, from: (key: string) => string): void => {
    if (values === undefined) return;
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      problems.push('configuration file: must hold one JSON object');
      return;
    }
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined) continue;
      if (!Object.hasOwn(SETTINGS, key)) problems.push(`${from(key)}: no such setting${suggestion(key)}`);
      else raw.set(key as ConfigKey, { value, from: from(key) });
    }
  };
  take(sources.file, (key) => `configuration file, ${key}`);
  for (const key of CONFIG_KEYS) {
    const value = sources.env?.[environmentOf(key)];
    if (value !== undefined && value !== '') raw.set(key, { value, from: environmentOf(key) });
  }
  take(sources.flags, (key) => (Object.hasOwn(SETTINGS, key) ? `--${flagOf(key as ConfigKey)}` : key));

  const values: Record<string, unknown> = {};
  for (const key of CONFIG_KEYS) {
    const given = raw.get(key);
    const setting: Setting = SETTINGS[key];
    if (given === undefined) values[key] = setting.default;
    else {
      try {
        values[key] = parseValue(setting, given.value);
      } catch (error) {
        const shown = setting.kind === 'text' && setting.secret ? '(hidden)' : JSON.stringify(given.value);
        problems.push(`${given.from}: ${shown} is not allowed: ${(error as Error).message}`);
      }
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return crossCheck(values as BrokerConfig);
}

/** What is allowed, for people: `1–65531 port`, `sync | async`, … */
export function rangeOf(setting: Setting): string {
  switch (setting.kind) {
    case 'number':
      return `${showNumber(setting.min, setting.unit)} … ${showNumber(setting.max, setting.unit)}`;
    case 'text':
      return setting.range;
    case 'choice':
      return setting.choices.join(' | ');
    case 'replicas':
      return '1 … 7 of ID@HOST:PORT, comma-separated; in the file also [{replicaId, host, port}]';
  }
}

export function defaultOf(setting: Setting): string {
  if (setting.kind === 'number') return showNumber(setting.default, setting.unit);
  if (setting.kind === 'replicas') return '';
  return setting.default;
}

/** docs/reference/config.md */
export function configReference(): string {
  const rows = CONFIG_KEYS.map((key) => {
    const setting: Setting = SETTINGS[key];
    const unit = setting.kind === 'number' ? setting.unit : '';
    const shown = defaultOf(setting);
    return `| \`${key}\` | ${shown === '' ? '–' : `\`${shown}\``} | ${unit} | ${rangeOf(setting).replaceAll('|', '\\|')} | ${setting.text} |`;
  });
  return [
    '# Settings of a broker',
    '',
    'Generated from `src/config.ts` by `npm run reference`; do not edit.',
    '',
    'Each setting is a key of the JSON file given by `--config FILE`, a flag (`electionTimeoutMs` is `--election-timeout-ms`) and',
    'a variable (`LEDGERMQ_ELECTION_TIMEOUT_MS`). Flags win over the environment, that over the file, that over the default.',
    'Sizes may be written with KiB, MiB, GiB or TiB. An unknown key or flag is refused.',
    '',
    '| setting | default | unit | allowed | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, KiB: KIB, MiB: MIB, GiB: GIB, TiB: 1024 * GIB };

/** `64MiB`, `1GiB` or plain digits → a number; NaN when it is neither. */
export function parseSize(text: string): number {
  const match = /^(\d+)(KiB|MiB|GiB|TiB|)$/.exec(text.trim());
  return match === null ? Number.NaN : Number(match[1]) * (SIZE_UNITS[match[2] as string] as number);
}

function showNumber(value: number, unit: string): string {
  if (value === Number.MAX_SAFE_INTEGER) return '2^53−1';
  if (!unit.startsWith('bytes') || value === 0) return String(value);
  for (const [name, size] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (value % size === 0) return `${value / size}${name}`;
  }
  return String(value);
}

function parseValue(setting: Setting, value: unknown): unknown {
  switch (setting.kind) {
    case 'number': {
      const bytes = setting.unit.startsWith('bytes');
      const parsed =
        typeof value === 'number' ? value : typeof value === 'string' ? (bytes ? parseSize(value) : parseDigits(value)) : Number.NaN;
      if (!Number.isSafeInteger(parsed) || parsed < setting.min || parsed > setting.max) {
        throw new Error(`a whole number of ${setting.unit}, ${rangeOf(setting)}`);
      }
      return parsed;
    }
    case 'text':
      if (typeof value !== 'string' || !setting.pattern.test(value)) throw new Error(setting.range);
      return value;
    case 'choice':
      if (typeof value !== 'string' || !setting.choices.includes(value)) throw new Error(`one of ${rangeOf(setting)}`);
      return value;
    case 'replicas':
      return parseReplicas(value);
  }
}

function parseDigits(text: string): number {
  return /^\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
}

function parseReplicas(value: unknown): readonly ReplicaAddress[] {
  const items: readonly unknown[] =
    typeof value === 'string'
      ? value
          .split(',')
          .map((item) => item.trim())
          .filter((item) => item !== '')
      : Array.isArray(value)
        ? value
        : [null];
  return items.map((item) => {
    const replica = typeof item === 'string' ? replicaFromText(item) : (item as ReplicaAddress | null);
    const valid =
      replica !== null &&
      typeof replica === 'object' &&
      inRange(replica.replicaId, SETTINGS.replicaId) &&
      inRange(replica.port, SETTINGS.port) &&
      typeof replica.host === 'string' &&
      HOST.test(replica.host);
    if (!valid) throw new Error(rangeOf(SETTINGS.replicas));
    return { replicaId: replica.replicaId, host: replica.host, port: replica.port };
  });
}

function replicaFromText(text: string): ReplicaAddress | null {
  const match = /^(\d+)@\[?([^@\]]+)\]?:(\d+)$/.exec(text);
  return match === null ? null : { replicaId: Number(match[1]), host: match[2] as string, port: Number(match[3]) };
}

function inRange(value: unknown, setting: NumberSetting): boolean {
  return Number.isSafeInteger(value) && (value as number) >= setting.min && (value as number) <= setting.max;
}

/** Ids of replicas are 1…7 (src/raft/quorum.ts). */
const MAX_GROUP_REPLICAS = 7;
const WILDCARD_HOSTS = ['0.0.0.0', '::'];

/** What one setting alone cannot say. */
function crossCheck(given: BrokerConfig): BrokerConfig {
  const problems: string[] = [];
  const own = given.replicas.find((replica) => replica.replicaId === given.replicaId);
  const advertisedHost = given.advertisedHost || own?.host || (WILDCARD_HOSTS.includes(given.host) ? '127.0.0.1' : given.host);
  const replicas = given.replicas.length > 0 ? given.replicas : [{ replicaId: given.replicaId, host: advertisedHost, port: given.port }];
  const check = (holds: boolean, problem: string): void => {
    if (!holds) problems.push(problem);
  };
  check(replicas.length <= MAX_GROUP_REPLICAS, `replicas: ${replicas.length} given, a group has ${MAX_GROUP_REPLICAS} at most`);
  check(new Set(replicas.map((replica) => replica.replicaId)).size === replicas.length, 'replicas: an id is named twice');
  check(
    new Set(replicas.map((replica) => `${replica.host}:${replica.port}`)).size === replicas.length,
    'replicas: an address is named twice',
  );
  check(
    replicas.some((replica) => replica.replicaId === given.replicaId),
    `replicaId: ${given.replicaId} is not among replicas (${replicas.map((replica) => replica.replicaId).join(', ')})`,
  );
  check(
    given.heartbeatIntervalMs * 3 <= given.electionTimeoutMs,
    `heartbeatIntervalMs: ${given.heartbeatIntervalMs} is more than a third of electionTimeoutMs (${given.electionTimeoutMs})`,
  );
  check(given.segmentBytes % MIB === 0, `segmentBytes: ${given.segmentBytes} is not a multiple of 1 MiB`);
  check(
    given.maxBatchBytes >= given.maxMessageBytes + 64 * KIB,
    `maxBatchBytes: ${given.maxBatchBytes} must be at least maxMessageBytes (${given.maxMessageBytes}) + 64 KiB`,
  );
  check(
    given.minSessionTimeoutMs <= given.maxSessionTimeoutMs,
    `minSessionTimeoutMs: ${given.minSessionTimeoutMs} is above maxSessionTimeoutMs (${given.maxSessionTimeoutMs})`,
  );
  check(parseDelayLevels(given.messageDelayLevel) !== null, 'messageDelayLevel: a delay is 0 or above 40 days');
  if (problems.length > 0) throw new ConfigError(problems);
  return { ...given, advertisedHost, replicas };
}

function suggestion(key: string): string {
  const plain = (text: string): string => text.replace(/[^a-z]/gi, '').toLowerCase();
  const near = CONFIG_KEYS.find((known) => plain(known) === plain(key));
  return near === undefined ? '' : `; did you mean ${near}?`;
}
