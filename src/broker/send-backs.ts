import type { ErrorCode } from '../protocol/errors.ts';
import { ERRORS, LedgerError } from '../protocol/errors.ts';
import { checkUserGroupName, dlqTopicOf, noTopicText, retryTopicOf } from '../protocol/names.ts';
import { Op } from '../protocol/requests.ts';
import type { DeadLetterMarkRequest, DeadLetterMarksRequest, SendBackRequest, SentBackMessage } from '../protocol/retry-requests.ts';
import type { Admin } from './admin.ts';
import { refuseWith } from './admin.ts';
import type { SentBack } from './commands.ts';
import type { BrokerContext } from './context.ts';
import type { DeliveryRow } from './delivery.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { ownership } from './groups.ts';
import { messageRow } from './message-row.ts';
import { nameRefusal } from './name-refusal.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { Reader } from './reader.ts';
import type { Session } from './session.ts';
import type { QueueState, TopicState } from './topics.ts';

/** RocketMQ's: the first retry is at level 3 (10 s), each further one a level later. */
const FIRST_RETRY_LEVEL = 3;
/** Of a level and of failed attempts as a row carries them; levels above the last one are the last one. */
const MAX_ATTEMPTS = 0xffff;
const DEAD = -1;

interface Prepared {
  readonly message: SentBack;
  readonly row: DeliveryRow;
  /** That it was first in; '' when it is gone. */
  readonly originTopic: string;
}

/**
 * Send-backs at the leader: finds what each offset refers to, decides where it goes next and when, and proposes it (F22, F23).
 * What was decided is in the entry; whether it still may be is decided again at apply (Retries).
 */
export class SendBacks {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #reader: Reader;
  readonly #admin: Admin;
  /** Requests whose messages are being looked up. */
  #underWay = 0;

  constructor(context: BrokerContext, commands: PendingCommands, reader: Reader, admin: Admin) {
    this.#context = context;
    this.#commands = commands;
    this.#reader = reader;
    this.#admin = admin;
  }

  sendBack(session: Session, requestId: number, request: SendBackRequest): void {
    const refusal = this.#refusal(request);
    if (refusal !== null) {
      session.refuse(requestId, refusal, refusal === 'TOPIC_NOT_FOUND' ? noTopicText(request.topic) : undefined);
      return;
    }
    this.#underWay++;
    this.#sendBack(session, requestId, request)
      .catch((error: unknown) => refuseWith(session, requestId, error))
      .finally(() => {
        this.#underWay--;
      });
  }

  #refusal({ group: name, member, topic: topicName, queueId, epoch, messages }: SendBackRequest): ErrorCode | null {
    const { leadership, state, limits } = this.#context;
    const refusal = leadership.refusal() ?? nameRefusal(() => checkUserGroupName(name))?.code ?? null;
    if (refusal !== null) return refusal;
    if (state.featureLevel < FEATURE_LEVELS.messaging) return 'FEATURE_LEVEL';
    if (messages.length === 0) return 'BAD_REQUEST';
    if (this.#underWay >= limits.maxPendingCommands) return 'BUSY';
    const topic = state.topics.named(topicName);
    if (topic === undefined) return 'TOPIC_NOT_FOUND';
    if (topic.queues[queueId] === undefined) return 'QUEUE_NOT_FOUND';
    const group = state.groups.named(name);
    return group === undefined ? 'UNKNOWN_MEMBER' : ownership(group, member, topic.id, queueId, epoch);
  }

  async #sendBack(session: Session, requestId: number, request: SendBackRequest): Promise<void> {
    const { group, member, epoch, queueId, messages } = request;
    const { id: topicId, queues } = this.#context.state.topics.named(request.topic) as TopicState;
    const queue = queues[queueId] as QueueState;
    const found: (Prepared | ErrorCode)[] = [];
    for (const message of messages) found.push(await this.#prepare(queue, message, request));
    const prepared = found.filter((each) => typeof each !== 'string');
    const command = { type: 'sendBack', group, member, topicId, queueId, epoch, messages: prepared.map(({ message }) => message) } as const;
    const answer = (results: readonly number[]): void => {
      let at = 0;
      const errors = found.map((each) => (typeof each === 'string' ? ERRORS[each].number : (results[at++] as number)));
      session.respond(Op.sendBack, requestId, { errors });
    };
    if (prepared.length === 0) {
      answer([]);
      return;
    }
    this.#commands.propose(
      command,
      (error, results) => {
        if (error !== null) {
          session.refuse(requestId, error);
          return;
        }
        prepared.forEach(({ message, originTopic }, i) => {
          if (message[1] === DEAD && results[i] === 0) this.#context.metrics.deadLetters(group, originTopic, 1);
        });
        answer(results);
      },
      prepared.map(({ row }) => row),
    );
  }

  /** @returns why it cannot be sent back, or what it is and where it goes */
  async #prepare(queue: QueueState, message: SentBackMessage, request: SendBackRequest): Promise<Prepared | ErrorCode> {
    const source = await messageRow(queue, message.offset, this.#reader);
    if (source === null) return 'MESSAGE_NOT_FOUND';
    const before = Math.min(Math.max(source.attempts, message.attempts - 1), MAX_ATTEMPTS - 1);
    const dead = message.delayLevel < 0 || before >= request.maxReconsumeTimes;
    const target = await this.#topic(request.group, dead);
    const row: DeliveryRow = { ...source, topicId: target.id, queueId: 0, attempts: before + 1 };
    const originTopic = this.#context.state.topics.withId(source.originTopicId)?.name ?? '';
    const level = message.delayLevel === 0 ? Math.min(FIRST_RETRY_LEVEL + before, MAX_ATTEMPTS) : message.delayLevel;
    return { message: dead ? [message.offset, DEAD, 0] : [message.offset, level, message.delayMs], row, originTopic };
  }

  /** The group's own topic, made when it is missing. @throws LedgerError as the proposal was refused */
  async #topic(group: string, dead: boolean): Promise<TopicState> {
    const { topics } = this.#context.state;
    const name = dead ? dlqTopicOf(group) : retryTopicOf(group);
    const known = topics.named(name);
    if (known !== undefined) return known;
    await this.#propose({ type: 'retryTopicMake', group, dead });
    const made = topics.named(name);
    if (made === undefined) throw new LedgerError('INTERNAL', `${name} was made and is not here`);
    return made;
  }

  #propose(command: Parameters<PendingCommands['propose']>[0]): Promise<readonly number[]> {
    return new Promise((resolve, reject) => {
      this.#commands.propose(command, (error, results) => {
        if (error === null) resolve(results);
        else reject(new LedgerError(error));
      });
    });
  }

  /** Dead letters that were sent to their topic again: noted, so that nobody does it twice without knowing. */
  mark(session: Session, requestId: number, { group, offsets }: DeadLetterMarkRequest): void {
    const name = nameRefusal(() => checkUserGroupName(group));
    if (name !== null) {
      session.refuse(requestId, name.code, name.detail);
      return;
    }
    this.#commands.propose({ type: 'deadLetterMark', group, offsets }, (error, errors) => {
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.deadLetterMark, requestId, { errors });
    });
  }

  marks(session: Session, requestId: number, { group, from, to }: DeadLetterMarksRequest): void {
    this.#admin.read(session, requestId, () => {
      session.respond(Op.deadLetterMarks, requestId, { marks: this.#context.state.retries.marks(group, from, to) });
    });
  }
}
