//! Rows and parameters say what they said. What holds of any bytes at all is in `sidecar/fuzz`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use bytes::{BufMut, BytesMut};
use chaperone_postgres::codec::{Cell, DataRow, Frontend, encode, frame, frontend, rewrite};
use proptest::prelude::*;

fn row(cells: &[Option<Vec<u8>>]) -> BytesMut {
    let mut out = BytesMut::new();
    encode::message(&mut out, b'D', |out| {
        out.put_u16(u16::try_from(cells.len()).unwrap());
        for cell in cells {
            match cell {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_i32(i32::try_from(value.len()).unwrap());
                    out.extend_from_slice(value);
                }
            }
        }
    });
    out
}

fn cell() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_rewritten_row_differs_in_its_replaced_cells_only(
        cells in proptest::collection::vec((cell(), 0u8..3, proptest::collection::vec(any::<u8>(), 0..30)), 0..12),
        before in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let original: Vec<_> = cells.iter().map(|(value, _, _)| value.clone()).collect();
        let expected: Vec<_> = cells
            .iter()
            .map(|(value, action, new)| match action {
                0 => value.clone(),
                1 => None,
                _ => Some(new.clone()),
            })
            .collect();
        let mut out = BytesMut::from(&before[..]);
        let changed = rewrite(&row(&original), &mut out, &mut Vec::new(), |index, value, scratch| {
            assert_eq!(value, original[index].as_deref());
            assert!(scratch.is_empty());
            match cells[index].1 {
                0 => Cell::Keep,
                1 => Cell::Null,
                _ => {
                    scratch.extend_from_slice(&cells[index].2);
                    Cell::Replace
                }
            }
        })
        .unwrap();
        prop_assert_eq!(changed, cells.iter().any(|(_, action, _)| *action != 0));
        prop_assert_eq!(&out[..before.len()], &before[..]);
        prop_assert_eq!(&out[before.len()..], &row(&expected)[..]);
        let body = &out[before.len() + frame::HEADER..];
        let read: Vec<_> = DataRow::parse(body).unwrap().cells().map(|c| c.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn bound_parameters_are_where_their_ranges_say(
        values in proptest::collection::vec(cell(), 0..10),
        portal in "[a-z]{0,8}",
    ) {
        let mut out = BytesMut::new();
        encode::message(&mut out, frontend::tag::BIND, |out| {
            encode::cstr(out, portal.as_bytes());
            encode::cstr(out, b"statement");
            out.put_u16(0);
            out.extend_from_slice(&row(&values)[frame::HEADER..]);
            out.put_u16(0);
        });
        let whole = frame::next(&mut out, 1 << 20).unwrap().unwrap();
        let Frontend::Bind(bind) = Frontend::parse(&whole).unwrap() else { panic!("{whole:?}") };
        prop_assert_eq!(bind.portal, portal);
        let read: Vec<_> = bind.parameters.iter().map(|p| p.value.as_ref().map(|v| v.to_vec())).collect();
        prop_assert_eq!(read, values);
        for parameter in &bind.parameters {
            prop_assert_eq!(&whole.raw[parameter.range.clone()], parameter.value.as_deref().unwrap_or_default());
        }
    }
}
