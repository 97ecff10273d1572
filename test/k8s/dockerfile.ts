import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './tools.ts';

export interface Instruction {
  readonly name: string;
  readonly text: string;
}
export interface Stage {
  readonly image: string;
  readonly name: string | null;
  readonly instructions: readonly Instruction[];
}

export const DOCKERFILE = join(ROOT, 'k8s', 'Dockerfile');
/** What `docker build` is given. */
export const CONTEXT = ROOT;

/** @throws Error on an instruction that it does not know: nothing is passed over */
export function parseDockerfile(text = readFileSync(DOCKERFILE, 'utf8')): Stage[] {
  const stages: { image: string; name: string | null; instructions: Instruction[] }[] = [];
  for (const line of text.replaceAll('\\\n', ' ').split('\n')) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, name = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (name === 'FROM') {
      const [, image = '', stage = null] = /^(\S+)(?: AS (\S+))?$/.exec(rest) ?? [];
      stages.push({ image, name: stage, instructions: [] });
    } else if (['WORKDIR', 'COPY', 'RUN', 'USER', 'ENTRYPOINT', 'CMD'].includes(name) && stages.length > 0) {
      stages.at(-1)?.instructions.push({ name, text: rest });
    } else throw new Error(`Dockerfile: ${line}`);
  }
  return stages;
}

export interface Copy {
  /** A stage's name, or null: from the build context. */
  readonly from: string | null;
  readonly sources: readonly string[];
  readonly target: string;
}

export function parseCopy(text: string): Copy {
  const words = text.split(/\s+/);
  const from = /^--from=(\S+)$/.exec(words[0] ?? '')?.[1] ?? null;
  const paths = from === null ? words : words.slice(1);
  return { from, sources: paths.slice(0, -1), target: paths.at(-1) as string };
}
