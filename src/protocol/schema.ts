import { LedgerError } from './errors.ts';

/**
 * Checks a decoded value and returns it as a T, or throws LedgerError BAD_REQUEST naming the field. Unknown fields of a map
 * are dropped, so that a newer peer may say more.
 */
export type Schema<T> = (value: unknown, name: string) => T;

/** Elements of one list in a header at most. */
export const MAX_LIST = 65_536;
/** UTF-16 units of a string at most, unless the field says less. */
export const MAX_TEXT = 4_096;

export function badField(name: string): LedgerError {
  return new LedgerError('BAD_REQUEST', `field ${name}`);
}

export function int(min: number, max: number): Schema<number> {
  return (value, name) => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) throw badField(name);
    return value;
  };
}
export const u16 = int(0, 0xffff);
export const u32 = int(0, 0xffff_ffff);
export const u53 = int(0, Number.MAX_SAFE_INTEGER);
/** −1 stands for "none". */
export const u53OrNone = int(-1, Number.MAX_SAFE_INTEGER);

export const bool: Schema<boolean> = (value, name) => {
  if (typeof value !== 'boolean') throw badField(name);
  return value;
};

export function textUpTo(max: number): Schema<string> {
  return (value, name) => {
    if (typeof value !== 'string' || value.length > max) throw badField(name);
    return value;
  };
}
export const text = textUpTo(MAX_TEXT);

export function oneOf<T extends string>(...choices: readonly T[]): Schema<T> {
  return (value, name) => {
    if (!choices.includes(value as T)) throw badField(name);
    return value as T;
  };
}

export function list<T>(item: Schema<T>, max = MAX_LIST): Schema<readonly T[]> {
  return (value, name) => {
    if (!Array.isArray(value) || value.length > max) throw badField(name);
    return value.map((each) => item(each, name));
  };
}

export function nullable<T>(inner: Schema<T>): Schema<T | null> {
  return (value, name) => (value === null ? null : inner(value, name));
}

/** A map with these fields. Those in `optional` may be missing. */
export function map<T extends object>(
  fields: { readonly [K in keyof T]-?: Schema<Exclude<T[K], undefined>> },
  optional: readonly (keyof T)[] = [],
): Schema<T> {
  const entries = Object.entries(fields) as [keyof T & string, Schema<unknown>][];
  return (value, name) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badField(name);
    const source = value as Record<string, unknown>;
    const result: Record<string, unknown> = {};
    for (const [key, schema] of entries) {
      const field = Object.hasOwn(source, key) ? source[key] : undefined;
      if ((field === undefined || field === null) && optional.includes(key)) continue;
      result[key] = schema(field, `${name}.${key}`);
    }
    return result as T;
  };
}
