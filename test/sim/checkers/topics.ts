import type { Request } from '../../../src/protocol/frame.ts';
import { Op, type TopicDescription, type TopicPutRequest, type TopicRoute } from '../../../src/protocol/requests.ts';
import { Violation } from './violation.ts';

/** What is known of one incarnation of a topic at one broker group. Moments are counted, one for each frame. */
interface Life {
  readonly name: string;
  readonly topicId: number;
  /** It was there then. */
  readonly since: number;
  /** It was at least that far: moment, version, queues there. */
  readonly floors: { readonly at: number; readonly version: number; readonly queues: number }[];
  /** What a version says, as it was listed. */
  readonly bodies: Map<number, string>;
  /** It was gone then. */
  goneAt: number;
  /** A creation of it was on its way when it went, or was asked for after that, at any group: it makes it again, and the others follow (seed 4147). */
  madeLate: boolean;
}

/**
 * Invariant (decision 0010, docs/guarantees.md, Administration), for each broker group: what was changed is seen by every later question.
 * A topic that was made is listed until somebody asks for its end; its version never goes back, its queues never become fewer, and a
 * version never says two things; an incarnation that was deleted never comes back, whatever comes late.
 */
export class TopicsChecker {
  readonly #lives = new Map<string, Map<number, Life>>();
  /** `name incarnation`: somebody has asked for its end, at any group. */
  readonly #endAsked = new Set<string>();
  /** `group name`: deletions that name no incarnation and were not answered: they may end one that is made later. */
  readonly #namelessEnds = new Map<string, number>();
  /** `name incarnation`: creations that were asked for and not answered, at all groups. */
  readonly #makes = new Map<string, number>();
  #now = 0;

  /** A request is written. @returns the moment */
  begun(group: string, request: Request): number {
    this.#now++;
    if (request.op === Op.topicDelete) {
      const key = `${group} ${request.body.topic}`;
      this.#namelessEnds.set(key, (this.#namelessEnds.get(key) ?? 0) + 1);
      for (const { topicId } of this.#of(group, request.body.topic)) this.#endAsked.add(`${request.body.topic} ${topicId}`);
    } else if (request.op === Op.topicPut) {
      const put = request.body;
      if (put.deleted || queuesAt(put, group) === 0) this.#endAsked.add(`${put.topic} ${put.topicId}`);
      else if (put.known !== true) this.#making(put);
    }
    return this.#now;
  }

  #making({ topic, topicId }: TopicPutRequest): void {
    const key = `${topic} ${topicId}`;
    this.#makes.set(key, (this.#makes.get(key) ?? 0) + 1);
    for (const lives of this.#lives.values()) {
      const life = lives.get(topicId);
      if (life?.name === topic && life.goneAt < this.#now) life.madeLate = true;
    }
  }

  /** @param begun what begun() said @param body null: refused */
  answered(group: string, request: Request, begun: number, body: unknown): void {
    this.#now++;
    if (request.op === Op.topicPut) {
      this.#putAnswered(group, request.body, body !== null);
    } else if (request.op === Op.topicDelete) {
      const key = `${group} ${request.body.topic}`;
      this.#namelessEnds.set(key, (this.#namelessEnds.get(key) ?? 1) - 1);
      if (body !== null) for (const life of this.#of(group, request.body.topic)) if (life.since <= begun) this.#gone(life);
    } else if (body !== null && (request.op === Op.topicCreate || request.op === Op.topicUpdate)) {
      const route = body as TopicRoute;
      this.#alive(group, route, queuesAt(route, group));
    } else if (body !== null && request.op === Op.topicList) {
      this.#listed(group, request.body.topics, begun, (body as { topics: readonly TopicDescription[] }).topics);
    }
  }

  #putAnswered(group: string, put: TopicPutRequest, done: boolean): void {
    const { topic, topicId, deleted, known } = put;
    const queues = queuesAt(put, group);
    if (deleted && done) this.#gone(this.#alive(group, put, queues));
    if (deleted || queues === 0) return;
    if (done) this.#alive(group, put, queues);
    const key = `${topic} ${topicId}`;
    if (known !== true) this.#makes.set(key, (this.#makes.get(key) ?? 1) - 1);
  }

  #gone(life: Life): void {
    life.goneAt = Math.min(life.goneAt, this.#now);
    if ((this.#makes.get(`${life.name} ${life.topicId}`) ?? 0) > 0) life.madeLate = true;
  }

  #alive(group: string, { topic, topicId, version }: TopicRoute, queues: number): Life {
    const key = `${group} ${topic}`;
    const lives = this.#lives.get(key) ?? new Map<number, Life>();
    this.#lives.set(key, lives);
    let life = lives.get(topicId);
    if (life === undefined) {
      const goneAt = Number.POSITIVE_INFINITY;
      life = { name: topic, topicId, since: this.#now, floors: [], bodies: new Map(), goneAt, madeLate: false };
      lives.set(topicId, life);
    }
    const last = life.floors.at(-1) ?? { version: 0, queues: 0 };
    if (version > last.version || queues > last.queues) {
      life.floors.push({ at: this.#now, version: Math.max(version, last.version), queues: Math.max(queues, last.queues) });
    }
    return life;
  }

  #listed(group: string, asked: readonly string[], begun: number, topics: readonly TopicDescription[]): void {
    for (const topic of topics) this.#checkShown(group, topic, begun);
    const names = asked.length > 0 ? asked : this.#namesAt(group);
    for (const name of names) {
      for (const { topicId, since, madeLate } of this.#of(group, name)) {
        if (since > begun || madeLate || this.mayEnd(group, name, topicId)) continue;
        if (!topics.some((topic) => topic.topic === name && topic.topicId === topicId))
          throw new Violation('topic lost', `${name} (${topicId}) was made at ${group}, nobody deleted it, and it is not listed`);
      }
    }
  }

  #checkShown(group: string, topic: TopicDescription, begun: number): void {
    const { topic: name, topicId, version, perm, placement, replication, queues } = topic;
    const before = this.#lives.get(`${group} ${name}`)?.get(topicId);
    const what = `${name} (${topicId}) at ${group}`;
    if (before !== undefined && before.goneAt <= begun && !before.madeLate)
      throw new Violation('topic came back', `${what} was deleted, and is listed`);
    const floor = before?.floors.findLast(({ at }) => at <= begun);
    if (floor !== undefined && before?.madeLate === false) {
      if (version < floor.version) throw new Violation('topic went back', `${what}: version ${version} after ${floor.version}`);
      if (queues.length < floor.queues) throw new Violation('topic went back', `${what}: ${queues.length} queues after ${floor.queues}`);
    }
    const life = this.#alive(group, topic, queues.length);
    const body = JSON.stringify([perm, placement, replication]);
    const same = life.bodies.get(version) ?? body;
    life.bodies.set(version, same);
    if (same !== body) throw new Violation('topic went back', `${what}: version ${version} is ${same} and ${body}`);
  }

  #of(group: string, name: string): Life[] {
    return [...(this.#lives.get(`${group} ${name}`)?.values() ?? [])];
  }

  #namesAt(group: string): string[] {
    return [...this.#lives.keys()].filter((key) => key.startsWith(`${group} `)).map((key) => key.slice(group.length + 1));
  }

  /** Has anybody asked for this incarnation's end, or may a deletion be on its way that would meet it? */
  mayEnd(group: string, name: string, topicId: number): boolean {
    return this.#endAsked.has(`${name} ${topicId}`) || (this.#namelessEnds.get(`${group} ${name}`) ?? 0) > 0;
  }

  /** The incarnation of that name that is there now for certain: who stores at the group stores in this one. */
  certain(group: string, name: string): number | null {
    const living = this.#of(group, name).filter(({ topicId, madeLate }) => !madeLate && !this.mayEnd(group, name, topicId));
    return living.length === 1 ? (living[0] as Life).topicId : null;
  }
}

function queuesAt({ placement }: TopicRoute, group: string): number {
  return placement.find(({ brokerName }) => brokerName === group)?.queues ?? 0;
}
