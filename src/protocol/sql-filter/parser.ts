import { badFilter } from './errors.ts';
import { type Comparison, type Condition, isCondition, type Search, type Value } from './expression.ts';
import { type Keyword, type Sign, type Token, tokens } from './lexer.ts';

/** UTF-16 units of an expression at most. */
export const MAX_FILTER_CHARACTERS = 4_096;
/** Parentheses, NOTs and signs inside each other at most: the parser and what it makes go as deep. */
export const MAX_FILTER_DEPTH = 64;
/** Different properties in one expression at most: each property of a message is looked for among them. */
export const MAX_FILTER_PROPERTIES = 32;

type Part = Value | Condition;
type Placed = { readonly part: Part; readonly at: number };

const ORDERS: ReadonlySet<string> = new Set(['<', '<=', '>', '>=']);
const SEARCHES: Readonly<Record<string, Search>> = { CONTAINS: 'contains', STARTSWITH: 'startsWith', ENDSWITH: 'endsWith' };

/** @throws LedgerError BAD_FILTER, with the position */
export function parseExpression(text: string): Condition {
  if (text.length > MAX_FILTER_CHARACTERS) {
    throw badFilter(text, MAX_FILTER_CHARACTERS, `an expression has ${MAX_FILTER_CHARACTERS} characters at most`);
  }
  return new Parser(text).parse();
}

/**
 * Recursive descent, one method a level of the grammar, lowest precedence first: OR; AND; = <> IS; < <= > >= BETWEEN IN CONTAINS
 * STARTSWITH ENDSWITH; + − NOT; literals, properties, parentheses. As in RocketMQ, NOT binds closest: `NOT a = 1` is `(NOT a) = 1`,
 * which is refused since a condition cannot be compared with a number, and `NOT (a = 1)` is what is meant.
 */
class Parser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  readonly #names = new Set<string>();
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokens(text);
  }

  parse(): Condition {
    const whole = this.#or();
    const rest = this.#peek();
    if (rest.kind !== 'end') throw this.#bad(rest.at, `${shown(rest)} was not expected here`);
    return this.#condition(whole);
  }

  #or(): Placed {
    let left = this.#and();
    while (this.#keyword('OR')) left = this.#join('or', left, this.#and());
    return left;
  }

  #and(): Placed {
    let left = this.#equality();
    while (this.#keyword('AND')) left = this.#join('and', left, this.#equality());
    return left;
  }

  #join(kind: 'and' | 'or', left: Placed, right: Placed): Placed {
    return { part: { kind, left: this.#condition(left), right: this.#condition(right) }, at: left.at };
  }

  #equality(): Placed {
    let left = this.#comparison();
    for (;;) {
      if (this.#sign('=')) left = this.#equal(left, this.#comparison());
      else if (this.#sign('<>')) left = negate(this.#equal(left, this.#comparison()));
      else if (this.#keyword('IS')) {
        const negated = this.#keyword('NOT');
        this.#expect('NULL');
        const isNull: Placed = { part: { kind: 'isNull', of: left.part }, at: left.at };
        left = negated ? negate(isNull) : isNull;
      } else return left;
    }
  }

  #comparison(): Placed {
    let left = this.#unary();
    for (;;) {
      const { kind, text } = this.#peek();
      if (kind === 'sign' && ORDERS.has(text)) {
        this.#next++;
        left = this.#order(text as Comparison, left, this.#unary());
        continue;
      }
      // `a NOT` begins a negated form here: nothing else may follow a value with it.
      const negated = kind === 'keyword' && this.#keyword('NOT');
      const form = this.#form(left);
      if (form === null && negated) throw this.#bad(this.#peek().at, 'BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH was expected');
      if (form === null) return left;
      left = negated ? negate(form) : form;
    }
  }

  #form(left: Placed): Placed | null {
    const { kind, text } = this.#peek();
    if (kind !== 'keyword') return null;
    const how = SEARCHES[text];
    if (how !== undefined) {
      this.#next++;
      return { part: { kind: 'search', how, name: this.#property(left, text), text: this.#string() }, at: left.at };
    }
    if (this.#keyword('BETWEEN')) return this.#between(left);
    return this.#keyword('IN') ? this.#in(left) : null;
  }

  #between(left: Placed): Placed {
    const low = this.#unary();
    this.#expect('AND');
    const high = this.#unary();
    if (low.part.kind === 'number' && high.part.kind === 'number' && low.part.value > high.part.value) {
      throw this.#bad(low.at, `BETWEEN ${low.part.value} AND ${high.part.value} holds for nothing`);
    }
    return this.#join('and', this.#order('>=', left, low), this.#order('<=', left, high));
  }

  #in(left: Placed): Placed {
    const name = this.#property(left, 'IN');
    this.#expectSign('(');
    const texts = [this.#string()];
    while (this.#sign(',')) texts.push(this.#string());
    this.#expectSign(')');
    return { part: { kind: 'in', name, texts }, at: left.at };
  }

  #unary(): Placed {
    const { at } = this.#peek();
    const word = this.#keyword('NOT') ? 'NOT' : this.#sign('-') ? '-' : this.#sign('+') ? '+' : null;
    if (word === null) return this.#primary();
    this.#deeper(at);
    const operand = this.#unary();
    this.#depth--;
    if (word === 'NOT') return { part: { kind: 'not', condition: this.#condition(operand) }, at };
    return { part: this.#signed(word, operand), at };
  }

  #signed(sign: '+' | '-', { part, at }: Placed): Value {
    if (part.kind === 'number') return sign === '-' ? { kind: 'number', value: -part.value } : part;
    if (part.kind === 'property') return sign === '-' ? { ...part, negated: !part.negated } : part;
    throw this.#bad(at, `a number or a property was expected behind ${sign}`);
  }

  #primary(): Placed {
    const token = this.#peek();
    const { at } = token;
    this.#next++;
    switch (token.kind) {
      case 'name':
        this.#names.add(token.text);
        if (this.#names.size > MAX_FILTER_PROPERTIES) throw this.#bad(at, `more than ${MAX_FILTER_PROPERTIES} properties`);
        return { part: { kind: 'property', name: token.text, negated: false }, at };
      case 'number':
        return { part: { kind: 'number', value: token.value }, at };
      case 'string':
        return { part: { kind: 'text', text: token.text }, at };
      case 'keyword':
        if (token.text === 'TRUE' || token.text === 'FALSE') return { part: { kind: 'constant', value: token.text === 'TRUE' }, at };
        if (token.text === 'NULL') return { part: { kind: 'constant', value: null }, at };
        break;
      case 'sign':
        if (token.text === '(') return this.#parenthesis(at);
        break;
      case 'end':
        throw this.#bad(at, 'the expression ends where a value or a condition was expected');
    }
    throw this.#bad(at, `a value or a condition was expected, not ${shown(token)}`);
  }

  #parenthesis(at: number): Placed {
    this.#deeper(at);
    const { part } = this.#or();
    this.#expectSign(')');
    this.#depth--;
    return { part, at };
  }

  /** Ordering is of numbers: RocketMQ refuses texts and conditions here, too. */
  #order(sign: Comparison, left: Placed, right: Placed): Placed {
    const value = ({ part, at }: Placed): Value => {
      if (part.kind === 'number' || part.kind === 'property') return part;
      throw this.#bad(at, `only numbers and properties have an order (${sign})`);
    };
    return { part: { kind: 'compare', sign, left: value(left), right: value(right) }, at: left.at };
  }

  #equal(left: Placed, right: Placed): Placed {
    for (const { part, at } of [left, right]) {
      if (part.kind === 'constant' && part.value === null) throw this.#bad(at, 'NULL equals nothing: use IS NULL');
    }
    if (!isCondition(left.part) && !isCondition(right.part)) {
      return { part: { kind: 'compare', sign: '=', left: left.part, right: right.part }, at: left.at };
    }
    return { part: { kind: 'same', left: this.#condition(left), right: this.#condition(right) }, at: left.at };
  }

  /** @throws LedgerError BAD_FILTER for a number or a text, which is neither true nor false */
  #condition({ part, at }: Placed): Condition {
    if (isCondition(part)) return part;
    if (part.kind === 'property' && !part.negated) return { kind: 'flag', name: part.name };
    const what = part.kind === 'text' ? 'a text' : 'a number';
    throw this.#bad(at, `a condition was expected, not ${what}`);
  }

  #property({ part, at }: Placed, word: string): string {
    if (part.kind === 'property' && !part.negated) return part.name;
    throw this.#bad(at, `a property was expected before ${word}`);
  }

  #string(): string {
    const token = this.#peek();
    if (token.kind !== 'string') throw this.#bad(token.at, "a text in '' was expected");
    this.#next++;
    return token.text;
  }

  #peek(): Token {
    return this.#tokens[this.#next] as Token;
  }

  #keyword(word: Keyword): boolean {
    const { kind, text } = this.#peek();
    if (kind !== 'keyword' || text !== word) return false;
    this.#next++;
    return true;
  }

  #sign(sign: Sign): boolean {
    const { kind, text } = this.#peek();
    if (kind !== 'sign' || text !== sign) return false;
    this.#next++;
    return true;
  }

  #expect(word: Keyword): void {
    if (!this.#keyword(word)) throw this.#bad(this.#peek().at, `${word} was expected`);
  }

  #expectSign(sign: Sign): void {
    if (!this.#sign(sign)) throw this.#bad(this.#peek().at, `${sign} was expected`);
  }

  #deeper(at: number): void {
    if (++this.#depth > MAX_FILTER_DEPTH) throw this.#bad(at, `more than ${MAX_FILTER_DEPTH} levels`);
  }

  #bad(at: number, why: string): Error {
    return badFilter(this.#text, at, why);
  }
}

function negate({ part, at }: Placed): Placed {
  return { part: { kind: 'not', condition: part as Condition }, at };
}

function shown(token: Token): string {
  return token.kind === 'string' ? `'${token.text}'` : token.text;
}
