/**
 * A parsed filter expression. What the grammar has twice is here once: BETWEEN is two comparisons, and everything that is
 * written with NOT is a `not` around the rest, which is the same in three-valued logic.
 */
export type Condition =
  | { readonly kind: 'and' | 'or'; readonly left: Condition; readonly right: Condition }
  | { readonly kind: 'not'; readonly condition: Condition }
  /** `null` is SQL's unknown. */
  | { readonly kind: 'constant'; readonly value: boolean | null }
  /** A property by itself: true when its text is `true`, in any case. */
  | { readonly kind: 'flag'; readonly name: string }
  | { readonly kind: 'isNull'; readonly of: Value | Condition }
  | { readonly kind: 'compare'; readonly sign: Comparison; readonly left: Value; readonly right: Value }
  /** Two conditions, or a condition and a property that is read as one. */
  | { readonly kind: 'same'; readonly left: Condition; readonly right: Condition }
  | { readonly kind: 'in'; readonly name: string; readonly texts: readonly string[] }
  | { readonly kind: 'search'; readonly how: Search; readonly name: string; readonly text: string };

export type Comparison = '=' | '<' | '<=' | '>' | '>=';
export type Search = 'contains' | 'startsWith' | 'endsWith';

/** What a comparison compares. */
export type Value =
  | { readonly kind: 'property'; readonly name: string; readonly negated: boolean }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'text'; readonly text: string };

const CONDITIONS: ReadonlySet<string> = new Set(['and', 'or', 'not', 'constant', 'flag', 'isNull', 'compare', 'same', 'in', 'search']);

export function isCondition(of: Value | Condition): of is Condition {
  return CONDITIONS.has(of.kind);
}
