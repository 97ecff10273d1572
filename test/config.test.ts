import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CONFIG_KEYS,
  ConfigError,
  type ConfigSources,
  configReference,
  environmentOf,
  flagOf,
  parseSize,
  rangeOf,
  resolveConfig,
  SETTINGS,
  settingOf,
} from '../src/config.ts';

function problemsOf(sources: ConfigSources): readonly string[] {
  try {
    resolveConfig(sources);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('config', () => {
  test('defaults make a group of one that keeps what it acknowledges', () => {
    const config = resolveConfig({});
    expect(config).toMatchObject({ flush: 'sync', replication: 'quorum', port: 7460, segmentBytes: 2 ** 30, retentionHours: 72 });
    expect(config.replicas).toEqual([{ replicaId: 1, host: '127.0.0.1', port: 7460 }]);
    expect(config.advertisedHost).toBe('127.0.0.1');
  });

  test('flags win over the environment, that over the file', () => {
    const file = { asyncFlushMs: 10, port: 8000, hotTailBytes: '16MiB' };
    const env = { LEDGERMQ_ASYNC_FLUSH_MS: '20', LEDGERMQ_PORT: '8100' };
    const config = resolveConfig({ file, env, flags: { port: '8200' } });
    expect(config).toMatchObject({ port: 8200, asyncFlushMs: 20, hotTailBytes: 16 * 2 ** 20 });
  });

  test('replicas are read from text and from JSON alike', () => {
    const asText = resolveConfig({ env: { LEDGERMQ_REPLICAS: '1@a:7460, 2@b:7460,3@[::1]:7470' }, flags: { replicaId: 2 } });
    const list = [
      { replicaId: 1, host: 'a', port: 7460 },
      { replicaId: 2, host: 'b', port: 7460 },
      { replicaId: 3, host: '::1', port: 7470 },
    ];
    expect(asText.replicas).toEqual(list);
    expect(asText.advertisedHost).toBe('b');
    expect(resolveConfig({ file: { replicas: list } }).replicas).toEqual(list);
  });

  test('every problem is named with its key, value and range', () => {
    const problems = problemsOf({
      file: { flush: 'sometimes', ports: 1 },
      flags: { port: '70000' },
      env: { LEDGERMQ_RETENTION_HOURS: '-1' },
    });
    expect(problems).toHaveLength(4);
    expect(problems.join('\n')).toContain('--port: "70000" is not allowed: a whole number of port, 1 … 65531');
    expect(problems.join('\n')).toContain('configuration file, flush: "sometimes" is not allowed: one of sync | async');
    expect(problems.join('\n')).toContain('configuration file, ports: no such setting');
    expect(problems.join('\n')).toContain('LEDGERMQ_RETENTION_HOURS: "-1" is not allowed');
  });

  test('a misspelt key gets a suggestion; a secret is never shown', () => {
    expect(problemsOf({ file: { electiontimeoutms: 5 } })[0]).toContain('did you mean electionTimeoutMs?');
    const secret = 'x'.repeat(2000);
    expect(problemsOf({ flags: { peerSecret: secret } })[0]).not.toContain('xxx');
  });

  test('variables that Kubernetes makes for a service of the same prefix are left alone', () => {
    expect(problemsOf({ env: { LEDGERMQ_A_PORT: 'tcp://10.0.0.1:7460', LEDGERMQ_ENDPOINT: 'ws://x:1' } })).toEqual([]);
  });

  test.each([
    [{ replicas: '1@a:1,2@b:1,3@c:1,4@d:1,5@e:1,6@f:1,7@g:1,1@h:1' }, 'a group has 7 at most'],
    [{ replicas: '1@a:1,1@b:1,3@c:1' }, 'an id is named twice'],
    [{ replicas: '1@a:1,2@a:1,3@c:1' }, 'an address is named twice'],
    [{ replicas: '1@a:1,2@b:1,3@c:1', replicaId: 4 }, 'replicaId: 4 is not among'],
    [{ electionTimeoutMs: 200 }, 'more than a third'],
    [{ segmentBytes: 16 * 2 ** 20 + 1 }, 'multiple of 1 MiB'],
    [{ maxBatchBytes: 327_680 }, 'maxBatchBytes: 327680 must be at least'],
    [{ minSessionTimeoutMs: 20_000, maxSessionTimeoutMs: 10_000 }, 'minSessionTimeoutMs: 20000 is above'],
  ])('settings that do not fit together are refused: %j', (flags, text) => {
    expect(problemsOf({ flags }).join('\n')).toContain(text);
  });

  test('no setting is without effect: each is read where a replica is put together', () => {
    const rooms = ['server.ts', 'replica/forced-recovery.ts', ...readdirSync('src/server').map((file) => `server/${file}`)];
    const reader = rooms.map((file) => readFileSync(`src/${file}`, 'utf8')).join('');
    const unread = CONFIG_KEYS.filter((key) => !new RegExp(`\\b${key}\\b`).test(reader));
    expect(unread).toEqual([]);
  });

  test('every default passes its own check; every number one below its minimum does not', () => {
    for (const key of CONFIG_KEYS) {
      const setting = settingOf(key);
      if (setting.kind !== 'number') continue;
      expect(problemsOf({ flags: { [key]: setting.min - 1 } }), key).not.toEqual([]);
      expect(problemsOf({ flags: { [key]: String(setting.default) } }), key).toEqual([]);
    }
  });

  test('names of flags and variables are unique and derived', () => {
    expect(flagOf('electionTimeoutMs')).toBe('election-timeout-ms');
    expect(environmentOf('electionTimeoutMs')).toBe('LEDGERMQ_ELECTION_TIMEOUT_MS');
    expect(new Set(CONFIG_KEYS.map(flagOf)).size).toBe(CONFIG_KEYS.length);
  });

  test('no input of any shape ends in anything but a configuration or a ConfigError', () => {
    fc.assert(
      fc.property(fc.constantFrom(...CONFIG_KEYS), fc.anything(), (key, value) => {
        try {
          resolveConfig({ file: { [key]: value } });
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
    );
  });

  test('sizes are read with binary units', () => {
    expect(parseSize('64MiB')).toBe(64 * 2 ** 20);
    expect(parseSize('12')).toBe(12);
    expect(parseSize('12MB')).toBeNaN();
  });

  test('the reference has one row a setting', () => {
    const text = configReference();
    for (const key of CONFIG_KEYS) expect(text).toContain(`| \`${key}\` |`);
    expect(rangeOf(SETTINGS.segmentBytes)).toBe('16MiB … 16GiB');
  });
});
