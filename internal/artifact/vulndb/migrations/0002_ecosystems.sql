-- +goose Up
alter table advisory add column published bigint not null default 0;
create table advisory_ecosystem (
    org       text   not null,
    ecosystem text   not null,
    at        bigint not null, -- of the newest import that covered it
    source    text   not null,
    primary key (org, ecosystem)
);
insert into advisory_ecosystem (org, ecosystem, at, source)
    select i.org, p.ecosystem, min(i.at), min(i.source) from advisory_import i join advisory_package p on p.org = i.org
    group by i.org, p.ecosystem having count(*) >= 100;
