import { test } from 'vitest';
import { runShard, SHARD_TIMEOUT_MS } from './seeds-shard.ts';

test('F36 FAULTS 23 500 seeds, shard 0: nothing acknowledged is lost, nothing else is broken', () => runShard(0), SHARD_TIMEOUT_MS);
