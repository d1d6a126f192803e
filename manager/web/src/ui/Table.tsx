import { type ReactNode, memo, useMemo, useState } from "react";
import { count } from "../state/format";
import { Button, Select } from "./controls";
import { Empty } from "./parts";

export interface Column<R> {
  key: string;
  title: string;
  /** Explains the title. */
  about?: string;
  show(row: R): ReactNode;
  /** What the column is sorted by; without it, it is not. */
  sort?(row: R): string | number | boolean | null;
  number?: boolean;
  /** In pixels. Columns without it share what is left. */
  width?: number;
}

interface Order {
  by: string;
  down: boolean;
}

interface TableProps<R> {
  label: string;
  /** The same array as long as nothing of it changes: rows are then not drawn anew. */
  columns: Column<R>[];
  rows: R[];
  id(row: R): string;
  first?: Order;
  empty?: ReactNode;
  /** Drawn below a row when that is opened. */
  detail?(row: R): ReactNode;
}

const step = 50;
const least = 130;

/** Widths are fixed, so that numbers that change do not move what stands beside them. */
export function Table<R>({ label, columns, rows, id, first, empty, detail }: TableProps<R>) {
  const [order, setOrder] = useState<Order | null>(first ?? null);
  const [limit, setLimit] = useState(step);
  const sorted = useMemo(() => sort(rows, columns, order), [rows, columns, order]);
  const wide = columns.reduce((sum, column) => sum + (column.width ?? least), detail ? 36 : 0);
  if (rows.length === 0) return <>{empty ?? <Empty title="There are none." />}</>;
  return (
    <>
      {rows.length > 5 && <Sorting columns={columns} order={order} onSort={setOrder} />}
      <div className="table-scroll" role="region" aria-label={label} tabIndex={0}>
        <table className="table" ref={(table) => { table?.style.setProperty("min-width", `${wide}px`); }}>
          <caption className="unseen">{label}</caption>
          <colgroup>
            {detail && <col className="opener" />}
            {columns.map((column) => (
              <col key={column.key} ref={(col) => { if (column.width) col?.style.setProperty("width", `${column.width}px`); }} />
            ))}
          </colgroup>
          <thead>
            <tr>
              {detail && <th><span className="unseen">Details</span></th>}
              {columns.map((column) => (
                <Head key={column.key} column={column} order={order} onSort={(down) => setOrder({ by: column.key, down })} />
              ))}
            </tr>
          </thead>
          <tbody>
            {sorted.slice(0, limit).map((row) => (
              <Line key={id(row)} row={row} columns={columns as Column<unknown>[]} detail={detail as ((row: unknown) => ReactNode) | undefined} />
            ))}
          </tbody>
        </table>
      </div>
      {sorted.length > limit && (
        <div className="table-more">
          <span>
            {count(limit)} of {count(sorted.length)} are shown
          </span>
          <Button small onClick={() => setLimit(limit + step * 6)}>
            Show more
          </Button>
        </div>
      )}
    </>
  );
}

/** On a phone rows are cards, and there is no head to sort by. */
function Sorting<R>({ columns, order, onSort }: { columns: Column<R>[]; order: Order | null; onSort(order: Order): void }) {
  const options = columns.filter((c) => c.sort).map((c) => [c.key, c.title] as const);
  if (options.length < 2) return null;
  const down = order?.down ?? false;
  const by = order?.by ?? "";
  return (
    <div className="table-sorting">
      <Select label="Sort by" value={by} options={by ? options : [["", "Sort by…"], ...options]} onChange={(key) => onSort({ by: key, down: columns.find((c) => c.key === key)?.number ?? false })} />
      <Button icon="down" className={down ? "" : "turned"} aria-label={down ? "Sorted downwards" : "Sorted upwards"} onClick={() => onSort({ by: by || (options[0]?.[0] ?? ""), down: !down })} />
    </div>
  );
}

interface HeadProps<R> {
  column: Column<R>;
  order: Order | null;
  onSort(down: boolean): void;
}

function Head<R>({ column, order, onSort }: HeadProps<R>) {
  const mine = order?.by === column.key ? order : null;
  const side = classOf(column);
  if (!column.sort) {
    return (
      <th scope="col" className={side} title={column.about}>
        <span className="sorter still">{column.title || <span className="unseen">Actions</span>}</span>
      </th>
    );
  }
  return (
    <th scope="col" className={side} aria-sort={mine ? (mine.down ? "descending" : "ascending") : "none"}>
      <button type="button" className="sorter" title={column.about} onClick={() => onSort(mine ? !mine.down : !!column.number)}>
        {column.title}
        <span className={`sort-mark ${mine ? (mine.down ? "down" : "up") : ""}`} aria-hidden="true" />
      </button>
    </th>
  );
}

/** What can be done to a row stays in sight, however far it is scrolled. */
function classOf(column: { key: string; number?: boolean }): string {
  return column.number ? "number" : column.key === "act" ? "act" : "";
}

interface LineProps {
  row: unknown;
  columns: Column<unknown>[];
  detail: ((row: unknown) => ReactNode) | undefined;
}

const Line = memo(function Line({ row, columns, detail }: LineProps) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <tr className={open ? "opened" : undefined}>
        {detail && (
          <td className="opener">
            <Button kind="quiet" small icon="down" className={open ? "turned" : ""} aria-expanded={open} aria-label={open ? "Hide details" : "Show details"} onClick={() => setOpen(!open)} />
          </td>
        )}
        {columns.map((column) => (
          <td key={column.key} className={classOf(column)} data-label={column.title}>
            {column.show(row)}
          </td>
        ))}
      </tr>
      {detail && open && (
        <tr className="detail">
          <td colSpan={columns.length + 1}>{detail(row)}</td>
        </tr>
      )}
    </>
  );
});

function sort<R>(rows: R[], columns: Column<R>[], order: Order | null): R[] {
  const by = columns.find((column) => column.key === order?.by)?.sort;
  if (!by || !order) return rows;
  const turn = order.down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const x = by(a);
    const y = by(b);
    // What is not known stands last, whichever way it is sorted.
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    return turn * (typeof x === "string" && typeof y === "string" ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y));
  });
}

/** Rows of which any text has all words of `search`. */
export function matching<R>(rows: R[], search: string, texts: (row: R) => unknown[]): R[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return rows;
  return rows.filter((row) => {
    const text = texts(row).join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
