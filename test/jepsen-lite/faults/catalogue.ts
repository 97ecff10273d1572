/** Faults of two classes may be there at once; two of one class get in each other's way. */
type FaultClass = 'network' | 'process' | 'clock' | 'disk' | 'damage' | 'members';

/**
 * What else may happen at the same time. `gentle`: only what takes no replica away and keeps nobody from writing, so that the fault is
 * sure to strike, or so that no more copies are in danger than the guarantees allow.
 */
type Company = 'anything' | 'reachable' | 'gentle' | 'nobody';

export interface FaultKind {
  readonly name: string;
  /** Another name on the command line, for several. */
  readonly family: string;
  readonly class: FaultClass;
  readonly company: Company;
  readonly gentle?: true;
  /** ms that it stays, drawn between the two. */
  readonly holdMs: readonly [number, number];
  readonly what: string;
  /** How it is known that it was there. */
  readonly evidence: string;
}

const DROPPED = 'packets that nftables counted';
const KILLED = 'the signal each process ended by, and its new process id';

const kind = (
  name: string,
  family: string,
  faultClass: FaultClass,
  company: Company,
  holdMs: readonly [number, number],
  what: string,
  evidence: string,
): FaultKind => ({ name, family, class: faultClass, company, holdMs, what, evidence });

/** Every fault, once: the command line, the schedule, `--list` and README.md go by it. */
export const FAULTS: readonly FaultKind[] = [
  kind('halves', 'partition', 'network', 'anything', [2_000, 6_000], 'one replica apart, at times with a client', DROPPED),
  kind('isolate', 'partition', 'network', 'anything', [2_000, 6_000], 'one replica sees nobody, no client either', DROPPED),
  kind('bridge', 'partition', 'network', 'anything', [2_000, 6_000], 'two replicas see each other only through a third', DROPPED),
  kind('ring', 'partition', 'network', 'anything', [2_000, 6_000], 'each replica is heard by one other only', DROPPED),
  kind('one-way', 'partition', 'network', 'anything', [2_000, 6_000], 'one replica hears and is not heard, or the other way', DROPPED),
  { ...kind('loss', 'loss', 'network', 'anything', [2_000, 6_000], '5–30 % of all packets between replicas', DROPPED), gentle: true },
  {
    ...kind(
      'delay',
      'delay',
      'network',
      'anything',
      [2_000, 6_000],
      "a replica's packets late and out of order",
      'packets that the relay reordered',
    ),
    gentle: true,
  },
  kind(
    'new-address',
    'address',
    'network',
    'gentle',
    [2_000, 4_000],
    'a replica goes on under another address, its name leads there; killed before, or as it runs',
    'the two addresses, and that it answers at the new one',
  ),
  kind('kill-one', 'kill', 'process', 'anything', [200, 3_000], 'kill -9 of one', KILLED),
  kind('kill-majority', 'kill', 'process', 'reachable', [200, 3_000], 'kill -9 of two at once', KILLED),
  kind('kill-all', 'kill', 'process', 'reachable', [200, 3_000], 'kill -9 of all three at once', KILLED),
  kind('pause', 'pause', 'process', 'anything', [1_500, 6_000], 'SIGSTOP, later SIGCONT', 'state T in /proc, and later not'),
  kind(
    'rolling-restart',
    'restart',
    'process',
    'gentle',
    [0, 0],
    'SIGTERM, one after the other',
    'exit code 0 of each, and its new process id',
  ),
  {
    ...kind(
      'clock',
      'clock',
      'clock',
      'anything',
      [3_000, 6_000],
      'wall clock of one an hour ahead or behind',
      "the time in the replica's answers",
    ),
    gentle: true,
  },
  kind('disk-full', 'disk', 'disk', 'gentle', [2_000, 6_000], 'no room on one volume, or on all', 'free bytes of the file system'),
  kind(
    'fsync-error',
    'disk',
    'disk',
    'gentle',
    [5_000, 5_000],
    'EIO from every sync; the bytes are not durable',
    "the shim's count, and exit code 1",
  ),
  kind(
    'write-error',
    'disk',
    'disk',
    'gentle',
    [5_000, 5_000],
    'EIO from one write, truncate or rename in some',
    "the shim's count, and exit code 1",
  ),
  kind('short-write', 'disk', 'disk', 'gentle', [2_000, 5_000], 'half of a write, without an error', "the shim's count"),
  kind(
    'torn-write',
    'power',
    'disk',
    'gentle',
    [5_000, 5_000],
    'some sectors of a log write, then no power',
    "the shim's count, and SIGKILL",
  ),
  kind(
    'power-loss',
    'power',
    'process',
    'reachable',
    [200, 2_000],
    'of one: kill -9, and what it had not synced is gone',
    `${KILLED}; what was reverted`,
  ),
  kind('power-loss-all', 'power', 'process', 'reachable', [200, 2_000], 'the same of all three at once', `${KILLED}; what was reverted`),
  kind('bit-flip', 'damage', 'damage', 'nobody', [0, 1_000], 'in files of a stopped replica', 'the bytes before and after'),
  kind('truncate', 'damage', 'damage', 'nobody', [0, 1_000], 'a file of a stopped replica is cut', 'its size before and after'),
  kind(
    'membership',
    'members',
    'members',
    'gentle',
    [500, 2_000],
    'a fourth replica is added and one is removed, under load',
    "the commands' answers",
  ),
];

export function faultKind(name: string): FaultKind {
  const found = FAULTS.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no fault ${name}`);
  return found;
}

/** Whether both may be there at once. */
export function goTogether(left: FaultKind, right: FaultKind): boolean {
  const allows = (a: FaultKind, b: FaultKind): boolean =>
    a.company === 'anything' ||
    (a.company === 'gentle' && b.gentle === true) ||
    (a.company === 'reachable' && ['network', 'clock'].includes(b.class));
  return left.class !== right.class && allows(left, right) && allows(right, left);
}

/**
 * `all`, or names and families, comma-separated → names in the order of the list above.
 * @throws Error naming what is unknown
 */
export function parseFaults(text: string): string[] {
  const words = text.split(',').map((word) => word.trim());
  const unknown = words.filter((word) => word !== 'all' && !FAULTS.some(({ name, family }) => name === word || family === word));
  if (unknown.length > 0) throw new Error(`no such fault: ${unknown.join(', ')}; --list names them`);
  return FAULTS.filter(({ name, family }) => words.some((word) => word === 'all' || word === name || word === family)).map(
    ({ name }) => name,
  );
}
