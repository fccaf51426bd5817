-- +goose Up
create table arm (
  org text not null,
  rollout_id text not null,
  grp text not null,
  doc text not null,
  primary key (rollout_id, grp)
);

create table look (
  org text not null,
  rollout_id text not null primary key,
  at bigint not null,
  doc text not null
);

create table sample (
  org text not null,
  rollout_id text not null,
  at bigint not null,
  doc text not null,
  primary key (rollout_id, at)
);
