import type { Claim, MarkStore } from './marks.ts';

/** What is needed of a Redis client; an ioredis `Redis` or `Cluster` is one. */
export interface RedisCommands {
  call(command: string, ...args: (string | number)[]): Promise<unknown>;
}

const DONE = 'done';
const CLAIM = 'claim:';
/** A key may go between the refused SET and the look at it. */
const MAX_CLAIM_LOOKS = 5;

/** Compared and changed in one step: between two commands the claim may become another's. */
const RENEW_WHEN_OURS = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end";
const DELETE_WHEN_OURS = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/**
 * Marks in Redis: `SET NX` with an expiry. They hold as long as Redis keeps the key: not past its expiry, not past an eviction
 * (run it with maxmemory-policy noeviction), and not past a failover to a replica that had not got it yet.
 */
export class RedisMarks implements MarkStore {
  readonly #redis: RedisCommands;
  readonly #prefix: string;

  /** @param prefix goes before each key; two consumers share marks only when it and their group are the same */
  constructor(redis: RedisCommands, options: { readonly prefix?: string } = {}) {
    this.#redis = redis;
    this.#prefix = options.prefix ?? 'ledgermq:once:';
  }

  async claim(mark: string, owner: string, leaseMs: number): Promise<Claim> {
    const key = this.#prefix + mark;
    for (let look = 0; look < MAX_CLAIM_LOOKS; look++) {
      if ((await this.#redis.call('SET', key, CLAIM + owner, 'PX', Math.ceil(leaseMs), 'NX')) !== null) return 'claimed';
      const found = await this.#redis.call('GET', key);
      if (found === DONE) return 'done';
      if (found === CLAIM + owner) return 'claimed';
      if (found !== null) return 'busy';
    }
    return 'busy';
  }

  async renew(mark: string, owner: string, leaseMs: number): Promise<boolean> {
    return (await this.#redis.call('EVAL', RENEW_WHEN_OURS, 1, this.#prefix + mark, CLAIM + owner, Math.ceil(leaseMs))) === 1;
  }

  async complete(mark: string, retainMs: number): Promise<void> {
    await this.#redis.call('SET', this.#prefix + mark, DONE, 'PX', Math.ceil(retainMs));
  }

  async release(mark: string, owner: string): Promise<void> {
    await this.#redis.call('EVAL', DELETE_WHEN_OURS, 1, this.#prefix + mark, CLAIM + owner);
  }
}
