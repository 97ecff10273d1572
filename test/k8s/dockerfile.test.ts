import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CONTEXT, parseCopy, parseDockerfile } from './dockerfile.ts';
import { ROOT } from './tools.ts';

describe('k8s/Dockerfile', () => {
  const stages = parseDockerfile();
  const last = stages.at(-1);

  test('F41 the image runs the Node that the tests run, in an exact version', () => {
    const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { devDependencies: { node: string } };
    for (const { image } of stages) expect(image).toBe(`node:${devDependencies.node}-bookworm-slim`);
  });

  test('F41 what it copies is there, and nothing from outside comes into the last stage', () => {
    const copies = stages.flatMap(({ instructions }) => instructions).filter(({ name }) => name === 'COPY');
    expect(copies.length).toBeGreaterThan(3);
    for (const { from, sources } of copies.map(({ text }) => parseCopy(text))) {
      if (from === null) for (const source of sources) expect([source, existsSync(join(CONTEXT, source))]).toEqual([source, true]);
      else expect(stages.slice(0, -1).map(({ name }) => name)).toContain(from);
    }
    const own = last?.instructions.filter(({ name, text }) => name === 'COPY' && parseCopy(text).from === null);
    expect(own).toEqual([]);
  });

  test('F41 it does not run as root, and its program is the one that the manifests call', () => {
    const users = last?.instructions.filter(({ name }) => name === 'USER').map(({ text }) => text);
    expect(users).toEqual(['10001:10001']);
    const wrapper = last?.instructions.find(({ name, text }) => name === 'RUN' && text.includes('/usr/local/bin/ledgermq'))?.text;
    // A small heap first, and a young generation of 1 MiB: figures in docs/benchmarks.md.
    expect(wrapper).toContain('exec node --initial-old-space-size=128 --max-semi-space-size=1 /app/dist/cli/main.js "$@"');
  });
});
