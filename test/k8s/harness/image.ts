import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { CONTEXT, parseCopy, parseDockerfile, type Stage } from '../dockerfile.ts';
import type { Bind } from './root.ts';
import { rootScript } from './root.ts';

const run = promisify(execFile);
const RUN_TIMEOUT_MS = 600_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** Where programs of an image lie that do not come with the base. */
const PROGRAMS = '/usr/local/bin';
export const IMAGE_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Directories that an image adds to its base, by the path that they have in it. */
export interface Image {
  readonly directories: readonly Bind[];
}

interface Built {
  readonly stage: Stage;
  readonly directories: Map<string, string>;
}

/**
 * The Dockerfile's steps, carried out as plain commands: each in a root where the machine's system directories stand for the base
 * image, with the pinned Node in them. @param scratch an empty directory, which holds the image
 */
export async function buildImage(scratch: string): Promise<Image> {
  const built: Built[] = [];
  for (const stage of parseDockerfile()) built.push(await buildStage(stage, join(scratch, `stage${built.length}`), built));
  const last = built.at(-1) as Built;
  return { directories: [...last.directories].map(([target, source]) => ({ source, target })) };
}

async function buildStage(stage: Stage, directory: string, earlier: readonly Built[]): Promise<Built> {
  const directories = new Map([[PROGRAMS, join(directory, 'programs')]]);
  mkdirSync(join(directory, 'programs'), { recursive: true });
  basePrograms(join(directory, 'programs'));
  let workDir = '/';
  for (const { name, text } of stage.instructions) {
    if (name === 'WORKDIR') {
      workDir = text;
      directories.set(text, join(directory, basename(text)));
      mkdirSync(join(directory, basename(text)), { recursive: true });
    } else if (name === 'COPY') copy(text, directories.get(workDir) as string, earlier);
    else if (name === 'RUN') await runStep(text, workDir, directories, directory);
    // USER, ENTRYPOINT and CMD are the pod's to say.
  }
  rmSync(join(directory, 'root'), { recursive: true, force: true });
  return { stage, directories };
}

/** What the base image node:VERSION has in /usr/local/bin. */
function basePrograms(into: string): void {
  linkOrCopy(join(CONTEXT, 'node_modules/node/bin/node'), join(into, 'node'));
  const npm = ['/usr/lib/node_modules/npm', '/usr/local/lib/node_modules/npm'].find((each) => existsSync(each));
  if (npm === undefined) throw new Error('no npm beside the system’s Node');
  writeFileSync(join(into, 'npm'), `#!/bin/sh\nexec /usr/local/bin/node ${npm}/bin/npm-cli.js "$@"\n`);
  chmodSync(join(into, 'npm'), 0o755);
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    cpSync(from, to);
  }
}

/** To `./` or to a name below the working directory, as the Dockerfile has it. */
function copy(text: string, workDir: string, earlier: readonly Built[]): void {
  const { from, sources, target } = parseCopy(text);
  for (const source of sources) {
    const into = target.endsWith('/') ? join(workDir, target, basename(source)) : join(workDir, target);
    cpSync(from === null ? join(CONTEXT, source) : pathIn(earlier, from, source), into, { recursive: true, verbatimSymlinks: true });
  }
}

function pathIn(earlier: readonly Built[], stage: string, path: string): string {
  const { directories } = earlier.find((each) => each.stage.name === stage) as Built;
  const [root, directory] = [...directories].find(([each]) => path.startsWith(`${each}/`)) ?? [];
  if (root === undefined || directory === undefined) throw new Error(`COPY --from=${stage} ${path}: no such directory there`);
  return join(directory, path.slice(root.length));
}

async function runStep(command: string, workDir: string, directories: ReadonlyMap<string, string>, directory: string): Promise<void> {
  const at = join(directory, 'root');
  mkdirSync(at, { recursive: true });
  const binds = [...directories].map(([target, source]) => ({ source, target }));
  // The package client's settings and its cache are those of whoever builds.
  const home = { source: homedir(), target: '/root' };
  const script = rootScript({ at, image: [], volumes: [...binds, home], readOnly: false, user: null, workDir }, ['sh', '-c', command]);
  const env = { ...process.env, PATH: IMAGE_PATH, HOME: '/root' };
  await run('unshare', ['--mount', 'sh', '-c', script], { env, timeout: RUN_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES });
}
