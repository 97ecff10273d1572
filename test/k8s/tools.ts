import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from './objects.ts';

export const ROOT = join(import.meta.dirname, '..', '..');
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const run = promisify(execFile);

let directory: string | null = null;

/** Of tools.sh; installs when it is not there yet. */
function tools(): string {
  directory ??= execFileSync(join(import.meta.dirname, 'tools.sh'), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();
  return directory;
}

/** What `kubectl apply -k` would send. @param kustomization directory, from the checkout's root on, or absolute */
export async function render(kustomization: string): Promise<string> {
  const { stdout } = await run(join(tools(), 'bin', 'kustomize'), ['build', kustomization], { cwd: ROOT, maxBuffer: MAX_OUTPUT_BYTES });
  return stdout;
}

export function parseObjects(rendered: string): KubeObject[] {
  return parseAllDocuments(rendered).map((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return document.toJS() as KubeObject;
  });
}

export async function objectsOf(kustomization: string): Promise<KubeObject[]> {
  return parseObjects(await render(kustomization));
}

/** @returns what the schemas of that version of Kubernetes say against it, '' when nothing. Unknown fields count. */
export async function schemaProblems(rendered: string, kubernetesVersion: string): Promise<string> {
  const scratch = mkdtempSync(join(tmpdir(), 'ledgermq-schema-'));
  try {
    const file = join(scratch, 'rendered.yaml');
    writeFileSync(file, rendered);
    const validate = join(tools(), 'schemas', 'bin', 'kubernetes-validate');
    await run(validate, ['--strict', '--quiet', '-k', kubernetesVersion, file]);
    return '';
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    return `${stdout}${stderr}` || String(error);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
