import { test } from 'vitest';
import { runShard, SHARD_TIMEOUT_MS } from './seeds-shard.ts';

test('F36 FAULTS 23 500 seeds, shard 1: nothing acknowledged is lost, nothing else is broken', () => runShard(1), SHARD_TIMEOUT_MS);
