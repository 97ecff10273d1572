import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MONITORING } from './rule-files.ts';

export const DASHBOARDS = join(MONITORING, 'dashboards');

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: unknown;
}
export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: unknown;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly Target[];
}
export interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string | { readonly query: string };
}
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly tags: readonly string[];
  readonly schemaVersion: number;
  readonly templating: { readonly list: readonly Variable[] };
  readonly panels: readonly Panel[];
}

/** By file name, without `.json`. */
export function readDashboards(): Map<string, Dashboard> {
  const names = readdirSync(DASHBOARDS).sort();
  return new Map(names.map((name) => [name.replace(/\.json$/, ''), JSON.parse(readFileSync(join(DASHBOARDS, name), 'utf8')) as Dashboard]));
}

export interface Query {
  /** File: title. */
  readonly panel: string;
  readonly expr: string;
}

export function allQueries(): Query[] {
  return [...readDashboards()].flatMap(([file, { panels }]) =>
    panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ panel: `${file}: ${title}`, expr }))),
  );
}
