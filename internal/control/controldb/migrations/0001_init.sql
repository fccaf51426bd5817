-- +goose Up
create table control_group (
    org        text   not null,
    rollout_id text   not null,
    role       text   not null,
    grp        text   not null,
    counters   text   not null, -- JSON, the last that were seen
    primary key (rollout_id, role, grp)
);
create table control_sample (
    org        text   not null,
    rollout_id text   not null,
    at         bigint not null,
    body       text   not null, -- JSON
    primary key (rollout_id, at)
);
