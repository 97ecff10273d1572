import type { Comparison, Condition, Value } from './expression.ts';
import { isCondition } from './expression.ts';
import { numberOf, PropertySlots } from './property-slots.ts';

/** Three-valued logic: what is said of a missing property is neither true nor false. */
const FALSE = 0;
const TRUE = 1;
const UNKNOWN = 2;
export type Truth = typeof FALSE | typeof TRUE | typeof UNKNOWN;

export interface Program {
  readonly slots: PropertySlots;
  /** Of the message whose properties are in the slots. */
  readonly evaluate: () => Truth;
  /** Tests that it makes of a message at most. */
  readonly tests: number;
}

type Test = () => Truth;

/** A closure for each node, made once: evaluating allocates nothing, decodes no text and looks at numbers in place. */
export function compile(condition: Condition): Program {
  const names = [...new Set(namesOf(condition))];
  const compiler = new Compiler(names);
  const evaluate = compiler.condition(condition);
  return { slots: compiler.slots, evaluate, tests: compiler.tests };
}

class Compiler {
  readonly slots: PropertySlots;
  readonly #slotOf: ReadonlyMap<string, number>;
  tests = 0;

  constructor(names: readonly string[]) {
    this.slots = new PropertySlots(names);
    this.#slotOf = new Map(names.map((name, slot) => [name, slot]));
  }

  condition(of: Condition): Test {
    this.tests++;
    switch (of.kind) {
      case 'constant': {
        const truth = of.value === null ? UNKNOWN : truthOf(of.value);
        return () => truth;
      }
      case 'and':
        return and(this.condition(of.left), this.condition(of.right));
      case 'or':
        return or(this.condition(of.left), this.condition(of.right));
      case 'not': {
        const inner = this.condition(of.condition);
        return () => NOT[inner()];
      }
      case 'same': {
        const left = this.condition(of.left);
        const right = this.condition(of.right);
        return () => same(left(), right());
      }
      case 'flag':
        return this.#ofProperty(of.name, (slots, slot) => slots.isTrue(slot));
      case 'isNull':
        return isCondition(of.of) ? isUnknown(this.condition(of.of)) : this.#isNull(of.of);
      case 'in': {
        const texts = of.texts.map((text) => Buffer.from(text));
        this.tests += texts.length;
        return this.#ofProperty(of.name, (slots, slot) => slots.equalsAny(slot, texts));
      }
      case 'search': {
        const text = Buffer.from(of.text);
        const { how } = of;
        return this.#ofProperty(of.name, (slots, slot) => slots[how](slot, text));
      }
      case 'compare':
        return this.#compare(of.sign, of.left, of.right);
    }
  }

  /** Unknown where the property is missing. */
  #ofProperty(name: string, test: (slots: PropertySlots, slot: number) => boolean): Test {
    const { slots } = this;
    const slot = this.#slot(name);
    return () => (slots.has(slot) ? truthOf(test(slots, slot)) : UNKNOWN);
  }

  /** A negated property that is no number is null, like a missing one. */
  #isNull(of: Value): Test {
    if (of.kind !== 'property') return () => FALSE;
    const { slots } = this;
    const slot = this.#slot(of.name);
    return of.negated ? () => truthOf(Number.isNaN(slots.number(slot))) : () => truthOf(!slots.has(slot));
  }

  #compare(sign: Comparison, left: Value, right: Value): Test {
    if (sign !== '=' || isNumeric(left) || isNumeric(right)) return COMPARE[sign](this.#number(left), this.#number(right));
    // Texts from here on, each a constant or a property.
    if (left.kind === 'text' && right.kind === 'text') {
      const truth = truthOf(left.text === right.text);
      return () => truth;
    }
    if (left.kind === 'property' && right.kind === 'property') {
      const { slots } = this;
      const [a, b] = [this.#slot(left.name), this.#slot(right.name)];
      return () => (slots.has(a) && slots.has(b) ? truthOf(slots.equalSlots(a, b)) : UNKNOWN);
    }
    const property = (left.kind === 'property' ? left : right) as Value & { kind: 'property' };
    const text = Buffer.from(((left.kind === 'text' ? left : right) as Value & { kind: 'text' }).text);
    return this.#ofProperty(property.name, (slots, slot) => slots.equals(slot, text));
  }

  #number(of: Value): () => number {
    if (of.kind === 'property') {
      const { slots } = this;
      const slot = this.#slot(of.name);
      return of.negated ? () => -slots.number(slot) : () => slots.number(slot);
    }
    const value = of.kind === 'number' ? of.value : numberOf(of.text);
    return () => value;
  }

  #slot(name: string): number {
    return this.#slotOf.get(name) as number;
  }
}

/** NaN stands for what is missing or no number: nothing can be said of it. */
const COMPARE: Readonly<Record<Comparison, (left: () => number, right: () => number) => Test>> = {
  '=': (left, right) => () => compared(left(), right(), 0, 0),
  '<': (left, right) => () => compared(left(), right(), -1, -1),
  '<=': (left, right) => () => compared(left(), right(), -1, 0),
  '>': (left, right) => () => compared(left(), right(), 1, 1),
  '>=': (left, right) => () => compared(left(), right(), 0, 1),
};

/** @param from and `to`: which signs of left − right are true */
function compared(left: number, right: number, from: number, to: number): Truth {
  if (Number.isNaN(left) || Number.isNaN(right)) return UNKNOWN;
  const order = left < right ? -1 : left > right ? 1 : 0;
  return truthOf(order >= from && order <= to);
}

const NOT: Readonly<Record<Truth, Truth>> = { [FALSE]: TRUE, [TRUE]: FALSE, [UNKNOWN]: UNKNOWN };

function truthOf(value: boolean): Truth {
  return value ? TRUE : FALSE;
}

function and(left: Test, right: Test): Test {
  return () => {
    const first = left();
    if (first === FALSE) return FALSE;
    const second = right();
    return second === FALSE ? FALSE : first === UNKNOWN ? UNKNOWN : second;
  };
}

function or(left: Test, right: Test): Test {
  return () => {
    const first = left();
    if (first === TRUE) return TRUE;
    const second = right();
    return second === TRUE ? TRUE : first === UNKNOWN ? UNKNOWN : second;
  };
}

function same(left: Truth, right: Truth): Truth {
  return left === UNKNOWN || right === UNKNOWN ? UNKNOWN : truthOf(left === right);
}

function isUnknown(test: Test): Test {
  return () => truthOf(test() === UNKNOWN);
}

function isNumeric(value: Value): boolean {
  return value.kind === 'number' || (value.kind === 'property' && value.negated);
}

function* namesOf(of: Condition | Value): Generator<string> {
  switch (of.kind) {
    case 'and':
    case 'or':
    case 'same':
    case 'compare':
      yield* namesOf(of.left);
      yield* namesOf(of.right);
      break;
    case 'not':
      yield* namesOf(of.condition);
      break;
    case 'isNull':
      yield* namesOf(of.of);
      break;
    case 'flag':
    case 'in':
    case 'search':
    case 'property':
      yield of.name;
      break;
    default:
  }
}
