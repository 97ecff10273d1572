import { spawn } from 'node:child_process';

export interface Ran {
  readonly exit: number;
  readonly output: string;
}

/** Debian's package `prometheus` has it. */
export function promtool(args: readonly string[], input = ''): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn('promtool', args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (output += bytes.toString()));
    child.once('error', reject);
    child.once('close', (code) => resolve({ exit: code ?? -1, output }));
    child.stdin.end(input);
  });
}
