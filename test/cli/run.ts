import { PassThrough, Writable } from 'node:stream';
import { type Context, Exit } from '../../src/cli/context.ts';
import { run } from '../../src/cli/program.ts';

export interface Ran {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line in this process. */
export async function cli(args: readonly string[], env: Record<string, string> = {}, input = ''): Promise<Ran> {
  const texts = { stdout: '', stderr: '' };
  const sink = (name: 'stdout' | 'stderr'): Writable =>
    new Writable({
      write(chunk, _encoding, done) {
        texts[name] += String(chunk);
        done();
      },
    });
  const stdin = new PassThrough();
  stdin.end(input);
  const context: Context = { env, stdout: sink('stdout'), stderr: sink('stderr'), stdin, exit: Exit.done };
  const exit = await run(args, context);
  return { exit, ...texts };
}
