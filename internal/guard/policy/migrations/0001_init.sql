-- +goose Up
create table policy_input (
    org    text not null,
    digest text not null primary key,
    body   text not null -- canonical JSON
);
create table decision (
    org          text    not null,
    id           text    not null primary key,
    action       text    not null,
    subject      text    not null,
    scope        text    not null, -- environment, or empty
    allow        integer not null,
    input_digest text    not null,
    rules        text    not null, -- JSON
    at           bigint  not null
);
create index decision_subject on decision (subject, action, scope, at);
create table policy_freeze (
    org     text   not null,
    id      text   not null primary key,
    scope   text   not null,
    reason  text   not null,
    owner   text   not null,
    expires bigint not null
);
create table policy_exception (
    org     text   not null,
    id      text   not null primary key,
    rule    text   not null,
    subject text   not null,
    reason  text   not null,
    owner   text   not null,
    expires bigint not null
);
