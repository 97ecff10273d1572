import { DELAYED_TOPIC, GROUP, type ModelHistory, type ModelLine, type Placed, TOPIC } from './model-history.ts';

/** A history that is wrong in one way. */
export interface Wrong {
  readonly checker: string;
  readonly name: string;
  /** @returns null when this history does not have what it takes */
  spoil(model: ModelHistory): ModelLine[] | null;
}

const SPARE_PROCESS = 900_000;

const acknowledged = ({ lines }: ModelHistory): Placed[] =>
  lines.flatMap(({ f, type, stored = [] }) => (f === 'send' && type !== 'invoke' ? stored.filter(({ offset }) => offset !== null) : []));
const isOf = (message: Pick<Placed, 'stream' | 'n'>) => (other: Placed) => other.stream === message.stream && other.n === message.n;
const pickOr = <T>(model: ModelHistory, from: readonly T[]): T | null => (from.length === 0 ? null : model.prng.pick(from));

/** Nobody sees the message any more. */
function unsee(lines: readonly ModelLine[], message: Placed, fs: readonly string[]): void {
  for (const line of lines) {
    if (!fs.includes(line.f)) continue;
    if (line.read !== undefined) line.read = line.read.filter((each) => !isOf(message)(each));
    for (const poll of line.polls ?? []) poll.read = poll.read.filter((each) => !isOf(message)(each));
  }
}

/** Behind the last message of its queue, where the last reading finds it. */
function appendTo(model: ModelHistory, message: Pick<Placed, 'stream' | 'n'>, queue: string): ModelLine[] {
  const last = model.lines.findLast(({ f, type, value }) => f === 'read' && type === 'ok' && value['queue'] === queue) as ModelLine;
  const offset = last.value['max'] as number;
  const logMs = 2_000_000;
  const changed = {
    ...last,
    value: { ...last.value, next: offset + 1, max: offset + 1 },
    read: [...(last.read ?? []), { ...message, queue, offset, logMs }],
  };
  return model.lines.map((line) => (line === last ? changed : line));
}

/** An explicit pull that shows one message, behind a line. */
function pullBehind(lines: readonly ModelLine[], behind: ModelLine, shown: Placed): ModelLine[] {
  const value = { queue: shown.queue, from: shown.offset, next: (shown.offset as number) + 1, min: 0, max: (shown.offset as number) + 1 };
  const line = { time: behind.time, process: SPARE_PROCESS, f: 'read', value };
  const pull: ModelLine[] = [
    { ...line, type: 'invoke' },
    { ...line, type: 'ok', read: [shown] },
  ];
  return lines.flatMap((each) => (each === behind ? [each, ...pull] : [each]));
}

/** Two messages of one key change places in everything that was said of them. */
function swap(model: ModelHistory, one: Placed, other: Placed): void {
  const places = [one, other].map(({ queue, offset, logMs }) => ({ queue, offset, ...(logMs === undefined ? {} : { logMs }) }));
  for (const line of model.lines) {
    for (const list of [line.stored, line.read, ...(line.polls ?? []).map(({ read }) => read)]) {
      if (list === undefined) continue;
      for (const message of list) {
        if (isOf(one)(message)) Object.assign(message, places[1]);
        else if (isOf(other)(message)) Object.assign(message, places[0]);
      }
      if (list !== line.stored) list.sort((a, b) => (a.offset as number) - (b.offset as number));
    }
  }
}

/** The last reading shows a delayed message at the beginning of log time. */
function early(model: ModelHistory, kind: string): ModelLine[] | null {
  // Of log time only what was read says anything.
  const known = model.lines.find(({ polls = [] }) => polls.some(({ queue, read }) => read.length > 0 && queue.startsWith(`${TOPIC}/`)));
  const isDue = ({ f, type, value, time }: ModelLine) =>
    f === 'send' && type === 'invoke' && value[kind] !== undefined && time > (known?.time ?? 0);
  const due = new Set(model.lines.filter(isDue).flatMap(({ sent = [] }) => sent.map(({ stream, n }) => `${stream}:${n}`)));
  const reads = model.lines.flatMap(({ f, type, read = [] }) => (f === 'read' && type === 'ok' ? read : []));
  const message = reads.find(({ stream, n }) => due.has(`${stream}:${n}`));
  if (message === undefined) return null;
  message.logMs = 1;
  return model.lines;
}

export const WRONGS: readonly Wrong[] = [
  {
    checker: 'lost',
    name: 'an acknowledged message is nowhere',
    spoil(model) {
      const message = pickOr(model, acknowledged(model));
      if (message === null) return null;
      unsee(model.lines, message, ['read', 'poll']);
      return model.lines;
    },
  },
  {
    checker: 'lost',
    name: 'a delayed message never comes',
    spoil(model) {
      const sends = model.lines.filter(({ f, type, value }) => f === 'send' && type === 'ok' && value['topic'] === DELAYED_TOPIC);
      const message = pickOr(
        model,
        sends.flatMap(({ stored = [] }) => stored.filter(({ offset }) => offset === null)),
      );
      if (message === null) return null;
      unsee(model.lines, message, ['read', 'poll']);
      return model.lines;
    },
  },
  {
    checker: 'lost',
    name: 'a message whose transaction was committed by the check never comes',
    spoil(model) {
      const checks = model.lines.filter(({ f, type, value }) => f === 'check' && type === 'ok' && value['outcome'] === 'commit');
      const check = pickOr(model, checks);
      if (check === null) return null;
      const [stream, n] = check.value['message'] as [string, number];
      unsee(model.lines, { stream, n, queue: '', offset: null }, ['read', 'poll']);
      return model.lines;
    },
  },
  {
    checker: 'fabricated',
    name: 'a message that nobody sent',
    spoil: (model) => appendTo(model, { stream: `${TOPIC}.ghost/-`, n: 0 }, `${TOPIC}/a/0`),
  },
  {
    checker: 'fabricated',
    name: 'bytes that nobody wrote',
    spoil: (model) => appendTo(model, { stream: '?', n: 0 }, `${TOPIC}/a/0`),
  },
  {
    checker: 'fabricated',
    name: 'a message whose send was refused',
    spoil(model) {
      const refused = pickOr(
        model,
        model.lines.flatMap(({ f, failed = [] }) => (f === 'send' ? failed.filter(({ stream }) => stream.endsWith('/-')) : [])),
      );
      return refused === null ? null : appendTo(model, refused, refused.queue);
    },
  },
  {
    checker: 'duplicated',
    name: 'a message that is stored once more',
    spoil(model) {
      const message = pickOr(model, acknowledged(model));
      return message === null ? null : appendTo(model, message, message.queue);
    },
  },
  {
    checker: 'reordered',
    name: 'two messages of a key the other way round',
    spoil(model) {
      // Of one call: whoever was given one of them was given it after both were sent.
      const calls = model.lines.filter(
        ({ f, type, stored = [] }) => f === 'send' && type !== 'invoke' && stored.length > 1 && stored[0]?.stream.endsWith('/-') === false,
      );
      const [one, other] = pickOr(model, calls)?.stored ?? [];
      if (one === undefined || other === undefined) return null;
      swap(model, { ...one }, { ...other });
      return model.lines;
    },
  },
  {
    checker: 'reordered',
    name: 'a message lies behind one that was sent after it was acknowledged',
    spoil(model) {
      const sends = model.lines.filter(
        ({ f, type, stored = [] }) =>
          f === 'send' && type === 'ok' && stored[0]?.stream.endsWith('/-') === true && stored[0].offset !== null,
      );
      for (const first of sends) {
        const one = first.stored?.[0] as Placed;
        const later = sends.find((line) => {
          const begun = model.lines.find(({ process, type }) => type === 'invoke' && process === line.process) as ModelLine;
          const other = line.stored?.[0] as Placed;
          return begun.time > first.time && other.queue === one.queue && other.queue.startsWith(`${TOPIC}/`);
        });
        if (later === undefined) continue;
        // Whoever was given the first one had not seen the second one yet: its place is in no poll.
        const other = later.stored?.[0] as Placed;
        const places = [one, other].map(({ offset }) => offset);
        for (const line of model.lines)
          for (const poll of line.polls ?? [])
            poll.read = poll.read.filter((each) => !places.includes(each.offset) || each.queue !== one.queue);
        swap(model, { ...one }, { ...other });
        giveOnce(model, one.queue, [
          { ...one, offset: places[1] as number },
          { ...other, offset: places[0] as number },
        ]);
        return model.lines;
      }
      return null;
    },
  },
  {
    checker: 'offset gone back',
    name: 'a group is shown an offset below one that was committed',
    spoil(model) {
      const fetches = model.lines.filter(({ f, type, value }) => f === 'fetch' && type === 'ok' && value['group'] === 'offsets');
      for (const fetch of fetches) {
        const begun = model.lines.find(({ process, type }) => type === 'invoke' && process === fetch.process) as ModelLine;
        const commits = model.lines
          .filter(({ f, type, time }) => f === 'commit' && type === 'ok' && time < begun.time)
          .map(({ value }) => value['offset'] as number);
        const lower = Math.min(...commits);
        if (commits.length < 2 || lower === Math.max(...commits)) continue;
        return model.lines.map((line) => (line === fetch ? { ...line, value: { ...line.value, offset: lower } } : line));
      }
      return null;
    },
  },
  {
    checker: 'offset gone back',
    name: 'a group is shown an offset that nobody committed',
    spoil(model) {
      const fetch = pickOr(
        model,
        model.lines.filter(({ f, type }) => f === 'fetch' && type === 'ok'),
      );
      return model.lines.map((line) => (line === fetch ? { ...line, value: { ...line.value, offset: 100_000 } } : line));
    },
  },
  {
    checker: 'offset reused',
    name: 'a reader was shown what was never committed, where another message is now',
    spoil(model) {
      const unknown = model.lines.find(
        ({ f, type, unknown: lost = [] }) =>
          f === 'send' && type === 'info' && lost.some((each) => each.offset === null && each.stream.endsWith('/-')),
      );
      const shown = unknown?.unknown?.find(({ offset }) => offset === null);
      if (unknown === undefined || shown === undefined) return null;
      const log = model.logs.get(shown.queue) as Placed[];
      if (log.length === 0) return null;
      return pullBehind(model.lines, unknown, { ...shown, offset: model.prng.between(0, log.length - 1), logMs: 1 });
    },
  },
  {
    checker: 'skipped on poll',
    name: 'a message that the group was never given',
    spoil(model) {
      const message = pickOr(model, acknowledged(model));
      if (message === null) return null;
      unsee(model.lines, message, ['poll']);
      return model.lines;
    },
  },
  {
    checker: 'two lock holders',
    name: 'one token of two members',
    spoil(model) {
      const polls = model.lines.filter(({ polls: given = [] }) => given.length > 0);
      const poll = pickOr(model, polls);
      if (poll === null) return null;
      const line = { time: poll.time, process: SPARE_PROCESS, f: 'poll', value: { group: GROUP, member: 'another' } };
      const again: ModelLine[] = [
        { ...line, type: 'invoke' },
        { ...line, type: 'ok', ...(poll.polls === undefined ? {} : { polls: poll.polls }) },
      ];
      return model.lines.flatMap((each) => (each === poll ? [each, ...again] : [each]));
    },
  },
  {
    checker: 'two lock holders',
    name: 'an owner goes on behind what the store has',
    spoil(model) {
      const effects = model.lines.filter(({ f, type, value }) => f === 'effect' && type === 'ok' && value['queue'] === `${TOPIC}/a/0`);
      const taken = effects.slice(1, -1).find(({ value }, at) => {
        const next = effects[at + 2]?.value;
        const earlier = effects.slice(0, at + 1).map((each) => (each.value['offset'] as number) + (each.value['count'] as number));
        return (next?.['offset'] as number) > Math.max(...earlier) && value['token'] === next?.['token'];
      });
      if (taken === undefined) return null;
      return model.lines.filter(({ process }) => process !== taken.process);
    },
  },
  {
    checker: 'half message seen',
    name: 'a message that was rolled back',
    spoil(model) {
      const ended = model.lines.find(({ f, value }) => (f === 'end' || f === 'check') && value['outcome'] === 'rollback');
      if (ended === undefined) return null;
      const [stream, n] = ended.value['message'] as [string, number];
      return appendTo(model, { stream, n }, `${TOPIC}/a/0`);
    },
  },
  {
    checker: 'half message seen',
    name: 'a message before it was committed',
    spoil(model) {
      for (const begun of model.lines) {
        if (begun.f !== 'begin' || begun.type !== 'ok' || begun.value['plan'] !== 'commit') continue;
        const message = begun.sent?.[0] as Placed;
        const said = model.lines.findIndex(
          ({ f, value }) => (f === 'end' || f === 'check') && `${value['message'] as string}` === `${message.stream},${message.n}`,
        );
        const at = model.lines.findIndex((line) => line.f === 'begin' && line.process === begun.process);
        const place = [...model.logs.values()].flat().find(isOf(message));
        if (place === undefined || said <= at) continue;
        return pullBehind(model.lines, model.lines[at] as ModelLine, { ...place, logMs: 1 });
      }
      return null;
    },
  },
  {
    checker: 'early delivery',
    name: 'a message before the time of its delivery',
    spoil: (model) => early(model, 'deliverAt'),
  },
  {
    checker: 'early delivery',
    name: 'a message before its delay after what was read when it was sent',
    spoil: (model) => early(model, 'delayMs'),
  },
  {
    checker: 'early delivery',
    name: 'a message before the delay of its level',
    spoil: (model) => early(model, 'delayTimeLevel'),
  },
  {
    checker: 'linearizable topic metadata',
    name: 'a topic as nobody made it',
    spoil(model) {
      const describe = pickOr(
        model,
        model.lines.filter(({ f, type }) => f === 'describe' && type === 'ok'),
      );
      return model.lines.map((line) => (line === describe ? { ...line, value: { ...line.value, found: { queues: 99, perm: 6 } } } : line));
    },
  },
];

/** Given to a member of its own behind all others, so that nobody was skipped. */
function giveOnce(model: ModelHistory, queue: string, read: Placed[]): void {
  const at = model.lines.findIndex(({ f }) => f === 'drain');
  const line = { time: (model.lines[at] as ModelLine).time, process: SPARE_PROCESS, f: 'poll', value: { group: GROUP, member: 'last' } };
  read.sort((a, b) => (a.offset as number) - (b.offset as number));
  model.lines.splice(at, 0, { ...line, type: 'invoke' }, { ...line, type: 'ok', polls: [{ queue, token: 1_000_000, read }] });
}
