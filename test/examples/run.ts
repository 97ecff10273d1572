import { spawn } from 'node:child_process';
import { join } from 'node:path';

const EXAMPLES = join(import.meta.dirname, '..', '..', 'examples');
const TIMEOUT_MS = 60_000;

/** Runs an example as a reader would. @returns its lines @throws Error with all that it said unless it ends by itself with 0 */
export async function runExample(name: string, endpoints: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const child = spawn(process.execPath, [join(EXAMPLES, `${name}.ts`)], {
    env: { ...process.env, LEDGERMQ_ENDPOINT: endpoints.join(','), NODE_NO_WARNINGS: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let all = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    all += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    all += chunk.toString();
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.once('close', (...end) => resolve(end)));
  if (code !== 0) throw new Error(`examples/${name}.ts ended with ${signal ?? code}:\n${all}`);
  return stdout.trimEnd().split('\n');
}

/** The numbers of the line that matches. */
export function numbers(lines: readonly string[], pattern: RegExp): number[] {
  const found = lines.map((line) => pattern.exec(line)).find((match) => match !== null);
  if (found === undefined) throw new Error(`no line like ${pattern}:\n${lines.join('\n')}`);
  return found.slice(1).map(Number);
}
