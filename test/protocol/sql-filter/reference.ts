import fc from 'fast-check';

/**
 * Filter expressions once more, from semantics alone: a tree that prints itself in RocketMQ's grammar and is walked to be
 * evaluated, over decoded properties. It shares no code with src/protocol/sql-filter/.
 */
export type Properties = ReadonlyMap<string, string>;
/** true, false, or null for SQL's unknown. */
export type Verdict = boolean | null;

export interface Node {
  readonly text: string;
  /** Precedence of what was printed: 0 OR, 1 AND, 2 = <> IS, 3 comparisons, 4 unary, 5 primary. */
  readonly level: number;
  verdict(properties: Properties): Verdict;
}

interface ValueNode {
  readonly text: string;
  readonly level: number;
  /** Whether it is compared as a number whatever stands on the other side. */
  readonly numeric: boolean;
  value(properties: Properties): string | number | null;
}

const within = ({ text, level }: { text: string; level: number }, atLeast: number): string => (level >= atLeast ? text : `(${text})`);

function toNumber(value: string | number | null): number | null {
  if (value === null || typeof value === 'number') return value;
  if (!/^[-+]?[0-9.]+(e[-+]?[0-9]+)?$/i.test(value) || value.length > 64) return null;
  const number = Number(value);
  return Number.isNaN(number) ? null : number;
}

const NAMES = ['a', 'b', 'amount', 'TAGS', '$x', '_y1', 'android'];
const TEXTS = [
  '',
  'a',
  'ab',
  'abc',
  "it's",
  'true',
  'TRUE',
  'false',
  '5',
  '5.0',
  '-5',
  '007',
  '1e2',
  ' 5',
  '5x',
  'ünï',
  '9007199254740991',
  '.5',
  '+3',
];
const NUMBERS = ['0', '5', '5.0', '5L', '07', '100', '1e2', '2.5E+1', '.5', '3.', '9007199254740991', '12345678901234567'];

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const name = fc.constantFrom(...NAMES);
const someText = fc.constantFrom(...TEXTS);

export const properties: fc.Arbitrary<Properties> = fc
  .array(fc.tuple(name, fc.oneof(someText, fc.string({ maxLength: 6 }))), { maxLength: 6 })
  .map((pairs) => new Map(pairs));

const property: fc.Arbitrary<ValueNode> = name.map((of) => ({
  text: of,
  level: 5,
  numeric: false,
  value: (all) => all.get(of) ?? null,
}));
const literalNumber: fc.Arbitrary<ValueNode> = fc.constantFrom(...NUMBERS).map((text) => ({
  text,
  level: 5,
  numeric: true,
  value: () => Number(text.replace('L', '')),
}));
const literalText: fc.Arbitrary<ValueNode> = someText.map((text) => ({ text: quoted(text), level: 5, numeric: false, value: () => text }));
const negative = (inner: fc.Arbitrary<ValueNode>): fc.Arbitrary<ValueNode> =>
  inner.map((of) => ({
    text: `- ${within(of, 4)}`,
    level: 4,
    numeric: true,
    value: (all) => {
      const number = toNumber(of.value(all));
      return number === null ? null : -number;
    },
  }));
const number: fc.Arbitrary<ValueNode> = fc.oneof(property, literalNumber, negative(fc.oneof(property, literalNumber)));
const anyValue: fc.Arbitrary<ValueNode> = fc.oneof(number, literalText);

const ORDERS: Readonly<Record<string, (left: number, right: number) => boolean>> = {
  '<': (left, right) => left < right,
  '<=': (left, right) => left <= right,
  '>': (left, right) => left > right,
  '>=': (left, right) => left >= right,
};

function ordered(sign: string, left: ValueNode, right: ValueNode, all: Properties): Verdict {
  const [a, b] = [toNumber(left.value(all)), toNumber(right.value(all))];
  return a === null || b === null ? null : (ORDERS[sign] as (left: number, right: number) => boolean)(a, b);
}

function equal(left: ValueNode, right: ValueNode, all: Properties): Verdict {
  const [a, b] = [left.value(all), right.value(all)];
  if (a === null || b === null) return null;
  if (!left.numeric && !right.numeric) return a === b;
  const [x, y] = [toNumber(a), toNumber(b)];
  return x === null || y === null ? null : x === y;
}

const not = (verdict: Verdict): Verdict => (verdict === null ? null : !verdict);
function both(left: Verdict, right: Verdict): Verdict {
  if (left === false || right === false) return false;
  return left === null || right === null ? null : true;
}

const comparison: fc.Arbitrary<Node> = fc.tuple(fc.constantFrom(...Object.keys(ORDERS)), number, number).map(([sign, left, right]) => ({
  text: `${within(left, 4)} ${sign} ${within(right, 4)}`,
  level: 3,
  verdict: (all) => ordered(sign, left, right, all),
}));

const equality: fc.Arbitrary<Node> = fc.tuple(fc.constantFrom('=', '<>'), anyValue, anyValue).map(([sign, left, right]) => ({
  text: `${within(left, 3)} ${sign} ${within(right, 3)}`,
  level: 2,
  verdict: (all) => (sign === '=' ? equal(left, right, all) : not(equal(left, right, all))),
}));

const between: fc.Arbitrary<Node> = fc
  .tuple(fc.boolean(), number, number, number)
  // Constant bounds that hold for nothing do not parse.
  .filter(([, , low, high]) => {
    const none = new Map<string, string>();
    const [from, to] = [low.value(none), high.value(none)];
    return !(typeof from === 'number' && typeof to === 'number' && from > to);
  })
  .map(([negated, of, low, high]) => ({
    text: `${within(of, 4)} ${negated ? 'NOT ' : ''}BETWEEN ${within(low, 4)} AND ${within(high, 4)}`,
    level: 3,
    verdict: (all) => {
      const inside = both(ordered('>=', of, low, all), ordered('<=', of, high, all));
      return negated ? not(inside) : inside;
    },
  }));

const isIn: fc.Arbitrary<Node> = fc
  .tuple(fc.boolean(), property, fc.array(someText, { minLength: 1, maxLength: 4 }))
  .map(([negated, of, texts]) => ({
    text: `${of.text} ${negated ? 'not ' : ''}In (${texts.map(quoted).join(' , ')})`,
    level: 3,
    verdict: (all) => {
      const value = of.value(all);
      const inside = value === null ? null : texts.includes(value as string);
      return negated ? not(inside) : inside;
    },
  }));

const SEARCHES = {
  CONTAINS: (value: string, text: string) => value.includes(text),
  startsWith: (value: string, text: string) => value.startsWith(text),
  endswith: (value: string, text: string) => value.endsWith(text),
};
const search: fc.Arbitrary<Node> = fc
  .tuple(fc.boolean(), fc.constantFrom(...(Object.keys(SEARCHES) as (keyof typeof SEARCHES)[])), property, someText)
  .map(([negated, how, of, text]) => ({
    text: `${of.text}${negated ? ' NOT' : ''} ${how} ${quoted(text)}`,
    level: 3,
    verdict: (all) => {
      const value = of.value(all);
      const found = value === null ? null : SEARCHES[how](value as string, text);
      return negated ? not(found) : found;
    },
  }));

const flag: fc.Arbitrary<Node> = property.map((of) => ({
  text: of.text,
  level: 5,
  verdict: (all) => {
    const value = of.value(all);
    return value === null ? null : (value as string).toLowerCase() === 'true';
  },
}));
const constant: fc.Arbitrary<Node> = fc
  .constantFrom<[string, Verdict]>(['TRUE', true], ['false', false], ['NULL', null])
  .map(([text, value]) => ({ text, level: 5, verdict: () => value }));
const nullOfValue: fc.Arbitrary<Node> = fc
  .tuple(fc.boolean(), fc.oneof(property, negative(property), literalText))
  .map(([negated, of]) => ({
    text: `${within(of, 3)} IS${negated ? ' NOT' : ''} NULL`,
    level: 2,
    verdict: (all) => (of.value(all) === null) !== negated,
  }));

export const expression: fc.Arbitrary<Node> = fc.letrec<{ node: Node; leaf: Node }>((tie) => ({
  leaf: fc.oneof(comparison, equality, between, isIn, search, flag, constant, nullOfValue),
  node: fc.oneof(
    { maxDepth: 4, depthSize: 'medium', withCrossShrink: true },
    tie('leaf'),
    fc.tuple(tie('node'), tie('node')).map(([left, right]) => ({
      text: `${within(left, 1)} AND ${within(right, 2)}`,
      level: 1,
      verdict: (all: Properties) => both(left.verdict(all), right.verdict(all)),
    })),
    fc.tuple(tie('node'), tie('node')).map(([left, right]) => ({
      text: `${within(left, 0)} or ${within(right, 1)}`,
      level: 0,
      verdict: (all: Properties) => not(both(not(left.verdict(all)), not(right.verdict(all)))),
    })),
    tie('node').map((of) => ({
      text: `NOT ${within(of, 4)}`,
      level: 4,
      verdict: (all: Properties) => not(of.verdict(all)),
    })),
    tie('node').map((of) => ({
      text: `${within(of, 3)} IS NULL`,
      level: 2,
      verdict: (all: Properties) => of.verdict(all) === null,
    })),
    // A condition equals a condition; NULL itself may not be compared, and two bare properties compare their texts.
    fc
      .tuple(tie('node'), tie('node'))
      .filter(([left, right]) => {
        const words = [bare(left.text), bare(right.text)];
        return !words.includes('NULL') && !words.every((word) => NAMES.includes(word));
      })
      .map(([left, right]) => ({
        text: `${within(left, 2)} = ${within(right, 3)}`,
        level: 2,
        verdict: (all: Properties) => {
          const [a, b] = [left.verdict(all), right.verdict(all)];
          return a === null || b === null ? null : a === b;
        },
      })),
    tie('node').map((of) => ({ ...of, text: `(${of.text}) /* a -- b */`, level: 5 })),
  ),
})).node;

/** Without the parentheses and comments around it. */
function bare(text: string): string {
  return text.replaceAll(/[()]|\/\*.*?\*\/|\s/g, '');
}
