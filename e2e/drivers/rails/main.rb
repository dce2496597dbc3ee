# Rails' ActiveRecord over pg: introspection, a dump of the schema, migrations, models, its errors.

require "active_record"
require "json"
require "stringio"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], database: ENV["PGDATABASE"],
  username: ENV["PGUSER"], password: ENV["PGPASSWORD"], pool: 3, variables: {statement_timeout: "20s"}
)
ActiveRecord::Migration.verbose = false

class Shelf < ActiveRecord::Base
  has_many :books
end

class Book < ActiveRecord::Base
  belongs_to :shelf
end

class Note < ActiveRecord::Base; end

class Person < ActiveRecord::Base; end

class Kind < ActiveRecord::Base; end

class Forbidden < ActiveRecord::Base
  self.table_name = "forbidden"
end

class MakeReaders < ActiveRecord::Migration[6.1]
  def change
    create_table :readers, comment: "Who reads" do |t|
      t.string :name, limit: 30, null: false
      t.jsonb :data, default: {}
      t.string :tags, array: true
      t.uuid :token
      t.timestamps
      t.references :shelf, foreign_key: true, type: :integer
      t.index %i[name token], unique: true
    end
    add_column :readers, :age, :integer, default: 3
    rename_column :readers, :age, :years
    change_column_null :readers, :years, false, 1
  end
end

def told
  yield.inspect
rescue ActiveRecord::ActiveRecordError => error
  "#{error.class} #{error.cause&.class} #{error.message}"
end

def transcript
  c = ActiveRecord::Base.connection
  puts "server #{c.database_version} #{c.current_schema} #{c.encoding} #{c.collation} #{c.schema_search_path}"
  puts c.tables.sort.inspect, c.views.inspect, c.extensions.inspect, c.schema_names.inspect
  %w[books shelves kinds cheap].each do |table|
    c.columns(table).each { |column| puts [table, column.name, column.sql_type, column.type, column.default, column.default_function, column.null, column.comment].inspect }
    puts c.primary_keys(table).inspect, c.foreign_keys(table).inspect, c.check_constraints(table).inspect
    puts c.indexes(table).map { |index| [index.name, index.columns, index.unique, index.where, index.orders] }.inspect
    puts c.table_comment(table).inspect, c.pk_and_sequence_for(table).to_a.join(" ")
  end
  dump = StringIO.new
  ActiveRecord::SchemaDumper.dump(c, dump)
  puts dump.string
  # Values by prepared statements, without them, and several times.
  # Ruby has no range without its first value.
  kinds = proc { Kind.select(Kind.column_names - ["nr"]).where("id > ?", 0).order(:id).each { |kind| puts kind.attributes.inspect } }
  3.times(&kinds)
  c.unprepared_statement(&kinds)
  puts c.exec_query("SELECT n, n / 3.0 AS third, now() IS NULL AS no FROM generate_series(1, 5) n").to_a.inspect
  puts Book.joins(:shelf).includes(:shelf).where(shelves: {label: "north"}).order(:id).map { |b| [b.title, b.price, b.shelf.label] }.inspect
  puts Book.group(:shelf_id).order(:shelf_id).sum(:price).inspect
  shelf = Shelf.create!(label: "west")
  puts shelf.id.inspect, Shelf.find_by(label: "west").update(label: "far west"), told { Shelf.create!(label: "north") }
  puts Note.insert_all((1000...1200).map { |n| {id: n, body: "n#{n}"} }).length
  puts Note.upsert_all([{id: 1, body: "x"}], unique_by: :id).to_a.inspect
  puts Note.where(id: 1000..1100).update_all("body = body || '!'"), Note.find_each(batch_size: 50).sum(&:id)
  Note.transaction do
    Note.lock.find(2).update!(body: "locked")
    puts told { Note.transaction(requires_new: true) { Note.create!(id: 1, body: "again") } }
    puts Note.where("id >= 1000").delete_all
    raise ActiveRecord::Rollback
  end
  puts "rolled back #{Note.where("id >= 1000").count} #{Note.find(2).body}"
  puts told { Note.transaction(isolation: :serializable) { Note.find_by_sql("SELECT nothing FROM notes") } }
  Note.where("id >= 1000").delete_all
  shelf.destroy
  # Migrations.
  ActiveRecord::SchemaMigration.create_table
  ActiveRecord::InternalMetadata.create_table
  MakeReaders.migrate(:up)
  dump = StringIO.new
  ActiveRecord::SchemaDumper.dump(c, dump)
  puts dump.string[/create_table "readers".*?end/m]
  MakeReaders.migrate(:down)
  puts c.select_value("SELECT pg_try_advisory_lock(7)").inspect, c.release_advisory_lock(7).inspect
  raw = c.raw_connection
  raw.copy_data("COPY notes FROM STDIN WITH (FORMAT csv)") { raw.put_copy_data("300,\"a,b\"\n") }
  raw.copy_data("COPY notes TO STDOUT") { while (line = raw.get_copy_data) do puts line if line.start_with?("300") end }
  Note.delete(300)
  c.reset!
  c.reconnect!
  puts c.active?, c.select_values("SELECT body FROM notes WHERE id < 4 ORDER BY id").inspect
  puts 6.times.map { |n| Thread.new { ActiveRecord::Base.connection_pool.with_connection { Note.find(n + 1).body } } }.map(&:value).inspect
end

def code
  yield
  "passed"
rescue ActiveRecord::StatementInvalid => error
  "#{error.cause.result.error_field(PG::Result::PG_DIAG_SQLSTATE)} #{error.class}"
end

def denied
  puts "read #{code { Forbidden.all.to_a }}"
  puts "write #{code { Forbidden.create!(id: 9, body: "x") }}"
  puts "many #{code { Forbidden.insert_all((1..50).map { |n| {id: n, body: "x"} }) }}"
  Note.transaction do
    Note.create!(id: 500, body: "kept")
    puts "inside #{code { Note.transaction(requires_new: true) { Forbidden.delete_all } }}"
  end
  puts "alive #{Note.where("id >= 500").map(&:attributes).inspect}"
end

def masked
  find = -> { Person.find(1) }
  people = [find.call, find.call, Person.connection.unprepared_statement(&find)]
  people.each do |p|
    born, score, tags = [p.born, p.score, p.tags].map { |value| value.nil? ? "NULL" : value.inspect }
    puts "masked id=#{p.id} email=#{p.email} profile=#{JSON.dump(p.profile)} born=#{born} score=#{score} tags=#{tags}"
  end
end

send(ARGV.fetch(0))
puts "end" if ARGV == ["transcript"]
