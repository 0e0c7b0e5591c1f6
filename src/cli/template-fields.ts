/** The fields of a template of `ps`. */
export const PS_FIELDS = [
  ...['id', 'serial', 'runtime', 'name', 'image', 'pid', 'keys', 'state', 'calls', 'done', 'left', 'errors', 'gone'],
  ...['inFlight', 'stuck', 'kept', 'p50', 'lastRefusal', 'lastRefusalTime', 'message'],
]

/** The fields of a template of `inspect`. */
export const INSPECT_FIELDS = [
  ...['id', 'serial', 'runtime', 'name', 'image', 'pid', 'state', 'since', 'ended', 'bundle', 'cgroup', 'listeners'],
  ...['keys', 'annotations', 'idMaps', 'traps', 'withheld', 'warnings', 'set', 'barred', 'cut'],
  ...['calls', 'done', 'left', 'errors', 'gone', 'inFlight', 'stuck', 'kept', 'p50', 'refusals'],
  'droppedRefusals',
]

/** The fields of a template of `events`. */
export const EVENTS_FIELDS = [
  ...['cursor', 'time', 'type', 'container', 'syscall', 'call', 'verdict', 'errno', 'reason', 'says', 'remedy', 'tid'],
  ...['pid', 'comm', 'microseconds', 'message'],
]

/** What is there already and is shown first, if nothing else is asked for. */
export const EVENTS_TAIL = 10

/** The fields of a template of `explain`. */
export const EXPLAIN_FIELDS = [
  'container',
  'name',
  'count',
  'call',
  'pid',
  'comm',
  'verdict',
  'errno',
  'reason',
  'says',
  'remedy',
  'set',
  'forGood',
  'allows',
  'time',
]

/** The fields of a template of `status`. */
export const STATUS_FIELDS = [
  ...['pid', 'version', 'since', 'reloaded', 'engine', 'engineSince', 'engines'],
  ...['served', 'left', 'listeners'],
]

/** The fields of a template of `top`. */
export const TOP_FIELDS = ['container', 'syscall', 'rate', 'done', 'left', 'errors', 'p50', 'p99', 'inFlight', 'stuck']
/** What `top` can sort by. */
export const TOP_SORTS = ['rate', 'done', 'left', 'errors', 'p50', 'p99', 'inFlight', 'stuck'] as const
