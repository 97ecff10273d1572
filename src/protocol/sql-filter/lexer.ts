import { badFilter } from './errors.ts';

/**
 * Words of a filter expression in RocketMQ's SQL92 (docs/guide/filters.md). Keywords are known in any case; identifiers,
 * `[A-Za-z_$][A-Za-z0-9_$]*`, are property names and count as they are written.
 */
export const KEYWORDS = ['AND', 'OR', 'NOT', 'IS', 'NULL', 'TRUE', 'FALSE', 'BETWEEN', 'IN', 'CONTAINS', 'STARTSWITH', 'ENDSWITH'] as const;
export type Keyword = (typeof KEYWORDS)[number];
export type Sign = '=' | '<>' | '<' | '<=' | '>' | '>=' | '(' | ')' | ',' | '+' | '-';

export type Token =
  | { readonly kind: 'keyword'; readonly text: Keyword; readonly at: number }
  | { readonly kind: 'sign'; readonly text: Sign; readonly at: number }
  | { readonly kind: 'name'; readonly text: string; readonly at: number }
  | { readonly kind: 'number'; readonly value: number; readonly text: string; readonly at: number }
  | { readonly kind: 'string'; readonly text: string; readonly at: number }
  | { readonly kind: 'end'; readonly text: ''; readonly at: number };

const BLANK = /(?:[ \t\r\n\f]+|--[^\r\n]*|\/\*[\s\S]*?\*\/)+/y;
const NAME = /[A-Za-z_$][A-Za-z0-9_$]*/y;
/** A whole number may end in L; one with a point or an exponent may not. */
const NUMBER = /(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?|\d+[lL]?/y;
const STRING = /'((?:[^']|'')*)'(?!')/y;
const SIGN = /<>|<=|>=|[=<>(),+-]/y;

const KEYWORD_SET: ReadonlySet<string> = new Set(KEYWORDS);

/** @throws LedgerError BAD_FILTER */
export function tokens(text: string): Token[] {
  const found: Token[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at += match[0].length;
    return match;
  };
  for (;;) {
    take(BLANK);
    const start = at;
    if (start === text.length) {
      found.push({ kind: 'end', text: '', at: start });
      return found;
    }
    const name = take(NAME)?.[0];
    if (name !== undefined) {
      found.push(word(name, start));
      continue;
    }
    const number = take(NUMBER)?.[0];
    if (number !== undefined) {
      found.push({ kind: 'number', value: numberOf(text, number, start, at), text: number, at: start });
      continue;
    }
    const string = take(STRING)?.[1];
    if (string !== undefined) {
      found.push({ kind: 'string', text: string.replaceAll("''", "'"), at: start });
      continue;
    }
    const sign = take(SIGN)?.[0];
    if (sign === undefined) throw unknown(text, start);
    found.push({ kind: 'sign', text: sign as Sign, at: start });
  }
}

function word(text: string, at: number): Token {
  const upper = text.toUpperCase();
  return KEYWORD_SET.has(upper) ? { kind: 'keyword', text: upper as Keyword, at } : { kind: 'name', text, at };
}

function numberOf(text: string, digits: string, start: number, end: number): number {
  // `1a` is one word that means nothing, not a number and a property.
  if (/[A-Za-z0-9_$.]/.test(text[end] ?? '')) throw badFilter(text, start, `${digits}${text[end]} is no number`);
  const value = Number(digits.replace(/[lL]$/, ''));
  if (!Number.isFinite(value)) throw badFilter(text, start, `${digits} is too large a number`);
  return value;
}

function unknown(text: string, at: number): Error {
  if (text[at] === "'") return badFilter(text, at, 'the text that begins here has no end');
  if (text.startsWith('/*', at)) return badFilter(text, at, 'the comment that begins here has no end');
  return badFilter(text, at, `${JSON.stringify(String.fromCodePoint(text.codePointAt(at) as number))} has no meaning here`);
}
