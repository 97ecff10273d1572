import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '..', '..');

/** Oldest first. */
export const BUILDS = ['level-1', 'level-2'] as const;

/** A build of an earlier commit, unpacked (README.md). */
export interface PinnedBuild {
  /** Its command line program. */
  readonly program: string;
  /** Its public client, as a module. */
  readonly client: string;
}

/** Unpacks a build below `dir`; what it depends on comes from this checkout. */
export function unpackBuild(name: string, dir: string): PinnedBuild {
  const into = join(dir, name);
  mkdirSync(into);
  execFileSync('tar', ['-xzf', join(import.meta.dirname, 'builds', `${name}.tar.gz`), '-C', into]);
  symlinkSync(join(ROOT, 'node_modules'), join(into, 'node_modules'));
  const dist = join(into, 'package', 'dist');
  return { program: join(dist, 'cli', 'main.js'), client: join(dist, 'index.js') };
}

/** Unpacks the data directory that the build left behind when it was killed with -9. @returns its path */
export function unpackData(name: string, dir: string): string {
  execFileSync('tar', ['-xzf', join(import.meta.dirname, 'builds', `${name}-data.tar.gz`), '-C', dir]);
  return join(dir, 'data');
}

/** This checkout's own program. */
export const TODAYS_PROGRAM = join(ROOT, 'src', 'cli', 'main.ts');
